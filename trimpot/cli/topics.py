"""The commands topic and card new: parse, ask, call, print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from trimpot.cli.knobs import print_json, print_lines, recipe_defaults
from trimpot.core.errors import UsageError

if TYPE_CHECKING:
    from trimpot.knobs.library import Library
    from trimpot.knobs.quiz import Question
    from trimpot.knobs.schema import Topic

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
INTERRUPTED = 130
"""The exit status of a program that was stopped from the keyboard."""


def topic(
    id: Annotated[str | None, typer.Argument(help="The topic, such as evaluation or 3; without it all eight.")] = None,
    quiz: Annotated[
        bool, typer.Option("--quiz", help="Predict what was measured before it is shown; answers are kept.")
    ] = False,
    json: Json = False,
) -> None:
    """A topic of the reading list in ten lines: sources, where they disagree, which knob, when it fails, what moves."""
    from trimpot.knobs.own import known_library
    from trimpot.knobs.topic_text import topic_json, topic_lines

    known = known_library()
    chosen = list(known.topics.values()) if id is None else [known.topic(id)]
    if quiz:
        _quiz(known, None if id is None else chosen[0], json)
    elif json:
        found = [topic_json(one, known) for one in chosen]
        print_json({"topics": found} if id is None else found[0])
    else:
        for number, one in enumerate(chosen):
            print("\n" if number else "", end="")
            print_lines(topic_lines(one, known))


def card_new(
    name: Annotated[str, typer.Argument(help="A short name of your own: small letters, digits, hyphens.")],
    title: Annotated[str | None, typer.Option(help="The paper's title.")] = None,
    address: Annotated[str | None, typer.Option(help="Where it stands, such as arxiv.org/abs/2305.18290.")] = None,
    knob: Annotated[str | None, typer.Option(help="The setting it is about: stage.key, or a card's name.")] = None,
    claim: Annotated[str | None, typer.Option(help="One sentence that a measurement can refute.")] = None,
    metric: Annotated[str | None, typer.Option(help="What it says moves, such as accuracy or kl.")] = None,
    direction: Annotated[str | None, typer.Option(help="up, down or equal, when the knob is raised.")] = None,
    json: Json = False,
) -> None:
    """Begin source, claim, card and study of a paper you have just read, in your own folder."""
    from trimpot.knobs.new import Paper, check_paper, find_setting, read_direction, read_text, scaffold, study_command
    from trimpot.knobs.own import known_library, own_folder
    from trimpot.studies import STUDIES

    known, defaults = known_library(), recipe_defaults()
    check_paper(Paper(name, "-", "-", "-", "-", "-", "up"), known, STUDIES)
    given = {"title": title, "address": address, "knob": knob, "claim": claim, "metric": metric, "direction": direction}
    missing = [f"--{option}" for option, value in given.items() if value is None]
    if missing and not sys.stdin.isatty():
        raise UsageError("card new", f"{', '.join(missing)} missing", "Give them, or run it on a terminal, which asks.")
    chosen_title = _asked(title, "The paper's title", partial(read_text, "--title"))
    chosen_address = _asked(address, "Its address", partial(read_text, "--address"))
    setting = _asked(knob, "Its knob: stage.key, or a card's name", lambda text: find_setting(text, defaults, known))
    chosen_claim = _asked(claim, "Its claim, a sentence that a measurement can refute", partial(read_text, "--claim"))
    chosen_metric = _asked(metric, "The metric that moves", partial(read_text, "--metric"))
    way = _asked(direction, "Where it goes when the knob is raised: up, down or equal", read_direction)
    paper = Paper(name, chosen_title, chosen_address, setting.written, chosen_claim, chosen_metric, way)
    files = scaffold(paper, setting, check_paper(paper, known, STUDIES))
    command = study_command(paper, setting)
    if json:
        print_json({"name": name, "folder": str(own_folder() / name), "files": [str(file) for file in files],
                    "study": command})  # fmt: skip
        return
    print_lines([("written:", str(file)) for file in files])
    print_lines([("next:", "fill in what says TODO; trimpot card --check names what is left"), ("study:", command)])


def _asked(value: str | None, question: str, read: Callable[[str], T]) -> T:
    """What the option gave, else the answer to the question, asked again while it cannot be read.

    Raises:
        UsageError: the option cannot be read.
    """
    if value is not None:
        return read(value)
    while True:
        try:
            return read(typer.prompt(question, err=True))
        except UsageError as error:
            print(error, file=sys.stderr)


def _quiz(known: Library, topic: Topic | None, json: bool) -> None:
    """Asks what is not asked yet, keeps each answer before it shows what was measured, and ends with the score."""
    from trimpot.knobs.quiz import kept_predictions, predictions_file, questions, score, unasked

    earlier = kept_predictions()
    everything = questions(known, topic)
    asked = unasked(everything, earlier)
    made: list[dict[str, Any]] = []
    interrupted = False
    try:
        for number, question in enumerate(asked, start=1):
            if not _ask(question, f"{number}/{len(asked)}", made, json):
                break
    except KeyboardInterrupt:
        interrupted = True
    left = len(asked) - len(made)
    now, ever = score(made), score([*earlier, *made])
    if json:
        print_json({"predictions": made, "score": now, "score_of_all": ever, "left": left,
                    "file": str(predictions_file())})  # fmt: skip
    else:
        print("\n" if interrupted else "", end="")
        print_lines([_closing(now, ever, left, str(predictions_file()), bool(everything))])
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _ask(question: Question, place: str, made: list[dict[str, Any]], quiet: bool) -> bool:
    """One question with its answer. False: the input has ended. ``quiet``: the talk goes to standard error."""
    from trimpot.knobs.quiz import keep, read_prediction

    stream = sys.stderr if quiet else sys.stdout
    print("\n".join([f"{place} {question.lines()[0]}", *question.lines()[1:]]), file=stream)
    while True:
        print("Your prediction, r, f or n (q ends): ", end="", file=stream, flush=True)
        line = sys.stdin.readline()
        if not line or line.strip().lower() in ("q", "quit"):
            print(file=stream)
            return False
        prediction = read_prediction(line)
        if prediction is not None:
            break
        print(f"{line.strip()!r} is none of the three.", file=stream)
    record = question.record(prediction)
    keep(record)
    made.append(record)
    right = sum(bool(one["right"]) for one in made)
    print("\n".join([*question.answer_lines(prediction), f"Score: {right} of {len(made)} right.", ""]), file=stream)
    return True


def _closing(now: dict[str, int], ever: dict[str, int], left: int, file: str, any_measured: bool) -> tuple[str, str]:
    if not any_measured:
        return ("quiz:", "nothing is measured here yet: trimpot study")
    asked = "nothing asked: you have seen every measured answer here" if not now["predictions"] and not left else ""
    kept = asked or f"{now['predictions']} kept in {file}, {now['right']} right; {left} left to ask"
    return ("quiz:", f"{kept}; all so far: {ever['right']} of {ever['predictions']} right")
