"""Rows into tokenised samples, with the counts a run reports; the split into trained and held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.rows import ChatRow, FeedbackRow, PreferencePair, PromptRow, Row, StepsRow, TextRow
from trimpot.core.samples import Sample
from trimpot.core.seeds import seed_for
from trimpot.core.settings import check_settings, setting
from trimpot.data.feedback import mismatched_answers, refuse_one_class
from trimpot.data.masks import MASKS
from trimpot.data.template import ChatTemplate, Tokenised


@dataclass(frozen=True)
class MaskSettings:
    """Which tokens of a conversation are trained on."""

    mask: str = setting(
        "assistant",
        "targets of a chat row: assistant (every answer), completion (all after the prompt), last_turn (the last "
        "answer) or all (every token but the first)",
        choices=MASKS,
    )


@dataclass(frozen=True)
class Prepared:
    """Tokenised rows in their order.

    Units: tokens; ``tokens`` counts a pair's prompt once, ``target_tokens`` are the supervised ones,
    ``truncated_tokens`` were cut from ``truncated_rows`` rows. ``rewritten_turns``: see ``Tokenised``.
    """

    samples: tuple[Sample, ...]
    truncated_rows: int
    truncated_tokens: int
    tokens: int
    target_tokens: int
    rewritten_turns: int
    row_by_id: Mapping[str, Row]


def tokenise(rows: Sequence[Row], template: ChatTemplate, max_length: int, mask: str = "assistant") -> Prepared:
    """Tokenises rows of any kind to at most ``max_length`` tokens each; ``mask`` (see MaskSettings) is for chat rows.

    A feedback row gets another row's answer as its second branch (see ``mismatched_answers``).

    Raises:
        UsageError: a row that has no supervised token left, or a prompt longer than max_length; names its origin.
            Several feedback rows that are all desirable or all undesirable. An unknown mask.
    Edge cases: no rows: no samples, all counts 0.
    """
    check_settings(MaskSettings(mask))
    feedback = [row for row in rows if isinstance(row, FeedbackRow)]
    refuse_one_class(feedback)
    mismatched = mismatched_answers(feedback)

    def one(row: Row) -> Tokenised:
        if isinstance(row, ChatRow):
            return template.chat(row, max_length, mask)
        if isinstance(row, PreferencePair):
            return template.pair(row, max_length)
        if isinstance(row, FeedbackRow):
            return template.feedback(row, mismatched[row.id], max_length)
        if isinstance(row, StepsRow):
            return template.steps(row, max_length)
        if isinstance(row, TextRow):
            return template.text(row, max_length, mask)
        return template.prompt_sample(row, max_length)

    done = [one(row) for row in rows]
    samples = tuple(each.sample for each in done)
    return Prepared(
        samples=samples,
        truncated_rows=sum(each.truncated_tokens > 0 for each in done),
        truncated_tokens=sum(each.truncated_tokens for each in done),
        tokens=sum(sample.tokens for sample in samples),
        target_tokens=sum(sample.targets for sample in samples),
        rewritten_turns=sum(each.rewritten_turns for each in done),
        row_by_id={row.id: row for row in rows},
    )


def split_held_out(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(train, held out): about ``share`` of the prompts, with all their rows, are held out.

    A row's side follows from the seed and its prompt alone, so rows of one prompt are never on both sides, and rows
    that are added or left out move no other. The prompt of a conversation ends before its first answer; that of a text
    is the whole, as is that of a conversation that begins with an answer.

    Edge cases: no rows: ([], []). Few prompts: the held-out side can be empty.

    Raises:
        UsageError: every row is held out.
        ValueError: share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share} is outside [0, 1)")
    train: list[Row] = []
    held_out: list[Row] = []
    for row in rows:
        drawn = seed_for(seed, "held out", content_hash(_prompt(row))) / 2**63
        (held_out if drawn < share else train).append(row)
    if rows and not train:
        problem = f"all {len(rows)} rows are held out: they have too few different prompts"
        raise UsageError("held_out", problem, "Give more prompts, another seed, or held_out: 0.")
    return train, held_out


def _prompt(row: Row) -> object:
    if isinstance(row, TextRow):
        return row.text
    if isinstance(row, PreferencePair | FeedbackRow | StepsRow | PromptRow):
        return [message.as_dict() for message in row.prompt]
    answers = [index for index, message in enumerate(row.messages) if message.role == "assistant"]
    prompt = row.messages[: answers[0] if answers else None] or row.messages
    return [message.as_dict() for message in prompt]
