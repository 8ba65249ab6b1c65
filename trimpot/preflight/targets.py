"""Checks of what is trained on, read back from the very ids and mask that the model gets. No model runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from trimpot.core.rows import ChatRow, FeedbackRow, Message, PreferencePair, Row, TextRow
from trimpot.core.samples import Branch, Sample
from trimpot.data.masks import ANSWER_MASKS
from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError

EXAMINED = 64
"""Rows that are decoded: evenly from all of them."""
SHOWN = 2
"""Decoded rows in the record."""


def decoded_targets(built: Built, deadline: Deadline) -> Found:
    """Decodes the targets of rows and holds them to the answers that the rows have.

    An answer's targets must be its text, then what ends a turn: one of the template's end tokens, last. Under
    ``mask: completion`` they begin with the first answer; under ``mask: all``, and for plain text, they are everything
    but the first token. Of a row that was cut, what is left must be the beginning of its answer.

    Source: Karpathy, A Recipe for Training Neural Networks (2019): visualize just before the net.
    """
    wrong: list[str] = []
    shown: list[dict[str, Any]] = []
    examined = 0
    for row, sample in _examined(built):
        for branch, answers in _sides(row, sample, built.mask):
            ids, mask = sample.prefix + branch.ids, (False,) * len(sample.prefix) + branch.supervised
            runs = _runs(ids, mask)
            problem = _problem(built, row, answers, runs, (ids, mask))
            examined += 1
            if problem is not None:
                wrong.append(f"{row.origin}: {problem}")
            if len(shown) < SHOWN:
                shown.append(_shown(built, row, ids, runs))
    if not examined:
        raise NotApplicableError("the rows have no answers to decode: prompts, or steps with labels")
    text = f"{examined} answers decode to themselves and their end"
    if wrong:
        text = f"{len(wrong)} of {examined} answers do not: {wrong[0]}"
    return Found(not wrong, float(len(wrong)), text, {"rows": shown})


def template(built: Built, deadline: Deadline) -> Found:
    """Holds what stands before an answer to what the model will be asked with.

    The ids before a row's first target must be those that a generation would begin with, and decode to what
    transformers' own ``apply_chat_template`` writes for these turns. A model that trimpot made also says which template
    it was made with.

    Source: ours; see ChatTemplate for the traps.
    """
    recorded = _recorded(built)
    if recorded is not None and recorded != built.template.hash:
        return Found(False, None, "the model was trained with another chat template than its tokenizer has now")
    wrong, examined = [], 0
    for row, sample in _examined(built):
        turns, tools = _before(row, sample, built)
        if turns is None or (not sample.branches and not sample.prefix):
            continue
        problem = _context_problem(built, sample, turns, tools)
        examined += 1
        if problem is not None:
            wrong.append(f"{row.origin}: {problem}")
    if not examined:
        raise NotApplicableError("no row has a prompt before its answer")
    text = f"{examined} prompts are those of a generation"
    if wrong:
        text = f"{len(wrong)} of {examined} prompts differ: {wrong[0]}"
    return Found(not wrong, float(len(wrong)), text)


def _examined(built: Built) -> list[tuple[Row, Sample]]:
    pairs = list(zip(built.rows, built.samples, strict=True))
    return pairs[:: max(1, len(pairs) // EXAMINED)][:EXAMINED]


def _sides(row: Row, sample: Sample, mask: str) -> list[tuple[Branch, list[Message]]]:
    """The branches of a row, each with the turns that it should teach."""
    if isinstance(row, PreferencePair):
        return [(branch, _answers(side)) for branch, side in
                zip(sample.branches, (row.chosen, row.rejected), strict=True)]  # fmt: skip
    if isinstance(row, FeedbackRow):
        return [(sample.branches[0], _answers(row.completion))]
    if isinstance(row, ChatRow):
        answers = _answers(row.messages)
        return [(sample.branches[0], answers[-1:] if mask == "last_turn" else answers)]
    if isinstance(row, TextRow):
        return [(sample.branches[0], [Message("assistant", row.text)])]
    return []


def _answers(turns: Sequence[Message]) -> list[Message]:
    return [one for one in turns if one.role == "assistant"]


def _runs(ids: Sequence[int], mask: Sequence[bool]) -> list[list[int]]:
    """The stretches of targets without a gap."""
    pairs = groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1])
    return [[token for token, _ in run] for target, run in pairs if target]


def _problem(
    built: Built, row: Row, answers: list[Message], runs: list[list[int]], whole: tuple[tuple[int, ...], Any]
) -> str | None:
    """What is wrong with a branch's targets; None: nothing."""
    ids, mask = whole
    chat = isinstance(row, ChatRow)
    if isinstance(row, TextRow) or (chat and built.mask == "all"):
        lead = len(built.template.lead)
        open_to_all = sum(mask) == len(ids) - lead - 1
        return None if open_to_all else f"{len(ids) - lead - sum(mask)} tokens are no targets, in place of the first"
    if not runs:
        return "no token is a target"
    cut = built.truncated_rows > 0
    if chat and built.mask == "completion":
        # What users say between answers is trained on too, so only the beginning is known.
        return _answer_problem(built, answers[0], runs[0], cut=True, alone=False)
    # A template that rewrites earlier turns leaves the last answers as targets.
    expected = answers if cut else answers[-len(runs) :]
    if len(runs) > len(answers):
        return f"{len(runs)} stretches of targets for {len(answers)} answers"
    for number, (answer, run) in enumerate(zip(expected, runs, strict=False)):
        problem = _answer_problem(built, answer, run, cut=cut and number == len(runs) - 1)
        if problem is not None:
            return problem
    return None


def _answer_problem(built: Built, answer: Message, run: list[int], cut: bool, alone: bool = True) -> str | None:
    decode = built.template.tokenizer.decode
    text, meant = decode(run), _round_trip(built, answer.content)
    begins = text.strip().startswith(meant) or (cut and meant.startswith(text.strip()))
    if not begins:
        return f"the targets are {text[:60]!r}, the answer is {answer.content[:60]!r}"
    if cut and meant.startswith(text.strip()) and len(text.strip()) <= len(meant):
        return None
    if not alone:
        return None
    if run[-1] not in built.template.stop_ids:
        return f"the targets {text[-40:]!r} do not end with a token that ends a turn"
    rest = text.strip()[len(meant) :].strip()
    if not answer.tool_calls and rest != decode(run[-1:]).strip():
        return f"after the answer the targets go on with {rest[:60]!r}"
    return None


def _round_trip(built: Built, text: str) -> str:
    """The text as this tokenizer gives it back: some put letters into another form."""
    tokenizer = built.template.tokenizer
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])).strip()


def _shown(built: Built, row: Row, ids: Sequence[int], runs: list[list[int]]) -> dict[str, Any]:
    decode = built.template.tokenizer.decode
    return {"row": str(row.origin), "text": decode(list(ids)), "targets": [decode(run) for run in runs]}


def _before(row: Row, sample: Sample, built: Built) -> tuple[Sequence[Message] | None, Sequence[Any]]:
    """The turns before a row's first target, with its tools; None: there are none, or no template wrote them."""
    if isinstance(row, TextRow):
        return None, ()
    if not isinstance(row, ChatRow):
        return row.prompt, ()
    if built.mask not in ANSWER_MASKS and built.mask != "completion":
        return None, ()
    places = [place for place, one in enumerate(row.messages) if one.role == "assistant"]
    runs = _runs(sample.branches[0].ids, sample.branches[0].supervised)
    if built.mask == "completion":
        first = places[0]
    elif built.truncated_rows:
        first = places[-1] if built.mask == "last_turn" else places[0]
    else:
        first = places[-min(len(runs), len(places))] if runs else places[-1]
    return (row.messages[:first] or None), row.tools


def _context_problem(built: Built, sample: Sample, turns: Sequence[Message], tools: Sequence[Any]) -> str | None:
    lead = len(built.template.lead)
    ids = sample.prefix
    if not ids:
        branch = sample.branches[0]
        first = branch.supervised.index(True) if True in branch.supervised else len(branch.ids)
        ids = branch.ids[:first]
    decode = built.template.tokenizer.decode
    text, written = decode(list(ids[lead:])), _written(built, turns, tools)
    if written is not None and _round_trip(built, written) != text.strip():
        return f"ends with {text[-50:]!r}, a generation's with {written[-50:]!r}"
    if not tools:
        asked = built.template.prompt_ids(turns)
        if asked != ids:
            return f"its {len(ids)} tokens are not the {len(asked)} that a generation begins with"
    return None


def _written(built: Built, turns: Sequence[Message], tools: Sequence[Any]) -> str | None:
    """The prompt as transformers writes it; None: the tokenizer has no template, or this one refuses these turns."""
    from jinja2 import TemplateError

    tokenizer = built.template.tokenizer
    if not tokenizer.chat_template:
        return None
    try:
        return str(
            tokenizer.apply_chat_template(
                [one.as_dict() for one in turns], tools=[dict(one) for one in tools] or None,
                tokenize=False, add_generation_prompt=True,
            )
        )  # fmt: skip
    except (TemplateError, ValueError, TypeError):
        return None


def _recorded(built: Built) -> str | None:
    """The hash of the template that the model says it was made with."""
    if built.trainee is None:
        return None
    from trimpot.models.export import template_of

    return template_of(built.trainee.models()["model"].model)


CHECKS = (
    Check(
        "decoded_targets",
        "Do the exact tokens and mask decode to the answer and its end?",
        "every answer",
        20,
        "Look at the decoded rows (--json): the mask is shifted, leaves the end out, or takes other turns in.",
        decoded_targets,
        rows_only=True,
    ),
    Check(
        "template",
        "Does an answer stand behind exactly what a generation begins with?",
        "every prompt",
        20,
        "Tokenise rows with the chat template of the tokenizer that the model is sampled with.",
        template,
        rows_only=True,
    ),
)
