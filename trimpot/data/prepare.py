"""Rows into tokenised samples, with the counts a run reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimpot.core.rows import ChatRow, PreferencePair, Row, TextRow
from trimpot.core.samples import Sample
from trimpot.data.template import ChatTemplate, Tokenised


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


def tokenise(rows: Sequence[Row], template: ChatTemplate, max_length: int) -> Prepared:
    """Tokenises rows of any kind to at most ``max_length`` tokens each.

    Raises:
        UsageError: a row that has no supervised token left, or a prompt longer than max_length; names its origin.
    Edge cases: no rows: no samples, all counts 0.
    """
    done = [_tokenise_one(row, template, max_length) for row in rows]
    samples = tuple(one.sample for one in done)
    return Prepared(
        samples=samples,
        truncated_rows=sum(one.truncated_tokens > 0 for one in done),
        truncated_tokens=sum(one.truncated_tokens for one in done),
        tokens=sum(sample.tokens for sample in samples),
        target_tokens=sum(sample.targets for sample in samples),
        rewritten_turns=sum(one.rewritten_turns for one in done),
        row_by_id={row.id: row for row in rows},
    )


def _tokenise_one(row: Row, template: ChatTemplate, max_length: int) -> Tokenised:
    if isinstance(row, ChatRow):
        return template.chat(row, max_length)
    if isinstance(row, PreferencePair):
        return template.pair(row, max_length)
    if isinstance(row, TextRow):
        return template.text(row, max_length)
    return template.prompt_sample(row, max_length)
