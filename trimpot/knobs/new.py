"""Scaffolds source, claim, card and study of a paper that the user has just read, in the user's folder.

What the user says is filled in, what follows from the recipe or from trimpot's own card of the knob too. The rest is
TODO with a word on what belongs there; `trimpot card --check` names what is left.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.knobs.keys import ANY, closest, covers
from trimpot.knobs.library import Library
from trimpot.knobs.own import CARD, CLAIM, SOURCE, STUDY, TODO, own_folder
from trimpot.knobs.schema import Card, Direction, Knob
from trimpot.knobs.status import PREDICTS
from trimpot.store.atomic import atomic_folder, write_text

DIRECTIONS: tuple[Direction, ...] = ("up", "down", "equal")
SIGNS: Mapping[Direction, str] = {"up": "+", "down": "-", "equal": "±"}
FACTORS, SEEDS = (0.3, 1.0, 3.0), 5
"""What the default of a number is multiplied by for the study's arms, and the seeds of an arm."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Paper:
    """What the user says of a paper: a short name, title and address, and one claim about one knob and metric."""

    name: str
    title: str
    address: str
    knob: str
    claim: str
    metric: str
    direction: Direction


@dataclass(frozen=True)
class Setting:
    """A setting of a recipe: in the form of `trimpot.knobs.keys`, as a user writes it, with its default.

    ``card`` is trimpot's own card that has it, None when there is none; ``knob`` is its place there.
    """

    form: str
    written: str
    default: object
    card: Card | None = None
    knob: Knob | None = None


def find_setting(knob: str, defaults: Mapping[str, object], library: Library) -> Setting:
    """The setting that a name means: stage.key as in a recipe, or the path of one of the cards.

    ``defaults``: every setting of a recipe with its default, as `check_cards` takes them.

    Raises:
        UsageError: it is neither; names the nearest.
    """
    card = library.cards.get(knob)
    form = card.recipe if card is not None else _form(knob, defaults)
    keys = [key for key in defaults if covers(form, key)] if form else []
    if not form or not keys:
        names = {*library.cards, *(_written(key) for key in defaults)}
        problem = "is no setting of a recipe and no card"
        mend = nearest(knob, names)
        raise UsageError(f"knob {knob!r}", problem, mend if mend.startswith("Did") else "See: trimpot card.")
    having = [(one, own) for one in library.cards.values() for _, own in one.knobs()]
    speaking = closest([own.recipe for _, own in having], keys[0])
    for one, own in having:
        if one is card or (card is None and own.recipe in speaking):
            return Setting(form, _written(form), defaults[keys[0]], one, own)
    return Setting(form, _written(form), defaults[keys[0]])


def read_direction(text: str) -> Direction:
    """The direction that a word means.

    Raises:
        UsageError: it means none.
    """
    for direction in DIRECTIONS:
        if text == direction:
            return direction
    mend = "Give up, down or equal: where the metric goes when the knob is raised."
    raise UsageError("--direction", f"{text!r} is no direction", mend)


def read_text(option: str, text: str) -> str:
    """The text, which must be one line with something in it.

    Raises:
        UsageError: it is not.
    """
    if not text.strip() or not text.isprintable():
        raise UsageError(option, "is empty, or more than one line", "Write it in a few words.")
    return text.strip()


def check_paper(paper: Paper, known: Library, studies: Collection[str], folder: Path | None = None) -> Path:
    """The folder that the paper will have.

    ``known``: what comes with trimpot and the user's own; ``studies``: ids of the studies there are.

    Raises:
        UsageError: a name that cannot be one or is taken, or a blank field.
    """
    where = f"card new {paper.name!r}"
    if not _NAME.fullmatch(paper.name):
        raise UsageError(where, "is no name", "Take small letters, digits and hyphens, such as my-paper-2026.")
    target = (folder or own_folder()) / paper.name
    if target.exists():
        mend = "Edit its files, or take another name."
        raise UsageError(str(target), "exists already, and nothing is overwritten", mend)
    taken = [kind for kind, names in _taken(known, studies).items() if paper.name in names]
    if taken:
        raise UsageError(where, f"is the name of a {taken[0]} already", "Take another name.")
    for field in ("title", "address", "claim", "metric"):
        read_text(f"--{field}", getattr(paper, field))
    return target


def scaffold(paper: Paper, setting: Setting, target: Path) -> list[Path]:
    """Writes the four files of the paper, all or none, and returns their paths. ``target`` must not exist.

    Raises:
        UsageError: the disk is full; nothing is left.
    """
    files = {
        SOURCE: source_text(paper),
        CLAIM: claim_text(paper),
        CARD: card_text(paper, setting),
        STUDY: study_text(paper, setting),
    }
    with atomic_folder(target) as folder:
        for name, text in files.items():
            write_text(folder / name, text)
    return [target / name for name in files]


def study_command(paper: Paper, setting: Setting) -> str:
    """The command that makes the study; RECIPE is the user's."""
    values = ",".join(_arms(setting)) or TODO
    parts = [
        "trimpot study new RECIPE",
        f"--arms {setting.written}={values}",
        f"--seeds {SEEDS}",
        f"--name {paper.name}",
    ]
    return " ".join([*parts, f"--predict {shlex.quote(prediction(paper, setting))}"])


def prediction(paper: Paper, setting: Setting) -> str:
    """The claim as `trimpot study new` can score it, then its own words, by which the claim finds its evidence."""
    metric = TODO if len(paper.metric.split()) > 1 else paper.metric
    way = PREDICTS[paper.direction]
    if paper.direction == "equal" and not metric.endswith("accuracy"):
        way += f" within {TODO}"
    return f"{metric} {way} with {setting.written}; {paper.claim}"


def source_text(paper: Paper) -> str:
    """``source.yaml``."""
    return f"""# What you read. verified: primary (you read it), secondary (a text that quotes it), not verified.
key: {_quoted(paper.name)}
title: {_quoted(paper.title)}
address: {_quoted(paper.address)}
really: {TODO}  # what stands at the address: authors, year, title
verified: primary
how: {TODO}  # which parts you read
"""


def claim_text(paper: Paper) -> str:
    """``claim.yaml``."""
    return f"""# One statement that a measurement can confirm or refute. Its status comes from evidence, not from here.
id: {_quoted(paper.name)}
statement: {_quoted(paper.claim)}
source: {_quoted(paper.name)}
place: {TODO}  # the table or section
condition: {TODO}  # model, data and scale; or that the source gives none
metric: {_quoted(paper.metric)}
direction: {paper.direction}
number: null  # the source's own, if it gives one
knob: {_quoted(paper.name)}
study: {_quoted(paper.name)}
"""


def card_text(paper: Paper, setting: Setting) -> str:
    """``card.yaml``."""
    card, knob = setting.card, setting.knob
    whose = _quoted(knob.default.whose) if knob is not None else TODO
    origin = knob.default.source if knob is not None else TODO
    topic = _quoted(card.topic) if card is not None else f"{TODO}  # such as {_quoted('post-training / supervised')}"
    return f"""# A text that has a number in it names a source or a claim: {{text: "0.1 to 0.5", source: {paper.name}}}.
path: {_quoted(paper.name)}
topic: {topic}
recipe: {_quoted(setting.form)}
what: {TODO}  # what the knob is, in one sentence
equation: {TODO}  # where it stands in the loss or the sampling
default: {{value: {_value(setting.default)}, whose: {whose}, source: {origin}}}
range: {TODO}  # values that are in use
fails_when:
  - condition: {TODO}  # when it fails
    signal: {TODO}  # the metric that tells
    detector: {TODO}  # a detector that watches it (docs/detectors.md), or undetected
    mend: {TODO}  # what to do then
moves:
  {_quoted(paper.metric)}: {{sign: "{SIGNS[paper.direction]}", how: {TODO}}}
core_source: {_quoted(paper.name)}
practitioner_source: {TODO}  # a source of someone who uses it: trimpot source
disagreement: {TODO}  # where the two disagree, or that they do not
claims: [{_quoted(paper.name)}]
"""


def study_text(paper: Paper, setting: Setting) -> str:
    """``study.yaml``."""
    arms = ", ".join(_arms(setting)) or TODO
    return f"""# The study that tests the claim. Fill it in, then run what it says:
# {study_command(paper, setting)}
recipe: {TODO}  # your recipe file, with your model and rows
arms:
  {_quoted(setting.written)}: [{arms}]
seeds: {SEEDS}
predict: {_quoted(prediction(paper, setting))}
"""


def _form(knob: str, defaults: Mapping[str, object]) -> str | None:
    """A key of the defaults, or the one that stage.key means: of several objectives that of the stage's own."""
    if knob in defaults or ANY in knob:
        return knob
    stage, _, key = knob.partition(".")
    fitting = [one for one in defaults if one.split(".")[0] == stage and one.split(".")[-1] == key]
    own = f"{stage}.{defaults.get(f'{stage}.objective')}.{key}"
    return own if own in fitting else next(iter(fitting), None)


def _written(form: str) -> str:
    """stage.key, without the objective. A form for all stages has TODO in the stage's place."""
    if "." not in form:
        return form  # it stands above the stages
    stage, *_, key = form.split(".")
    return f"{TODO if stage == ANY else stage}.{key}"


def _arms(setting: Setting) -> list[str]:
    """Values to begin with: a number's default with smaller and larger ones, both of true and false, else none."""
    value = setting.default
    if isinstance(value, bool):
        return ["false", "true"]
    if isinstance(value, int) and value > 1:
        return [str(max(1, round(value * factor))) for factor in FACTORS]
    if isinstance(value, float) and value > 0:
        return [_value(float(f"{value * factor:g}")) for factor in FACTORS]
    return []


def _taken(known: Library, studies: Collection[str]) -> dict[str, Collection[str]]:
    return {"source": known.sources, "claim": known.claims, "card": known.cards, "study": studies}


def _quoted(value: object) -> str:
    """The value as JSON, which is YAML too."""
    return json.dumps(value, ensure_ascii=False)


def _value(value: object) -> str:
    """The value as YAML has it on a line: 1.0e-06, which YAML would take for a word as 1e-06."""
    text: str = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1000)
    return text.strip()[1:-1]
