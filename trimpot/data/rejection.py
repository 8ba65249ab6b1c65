"""Chat rows constructed from accepted completions: rejection sampling, and distillation from a teacher's answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trimpot.core.rows import ChatRow, Message, Origin, PromptRow


def chat_rows_from_samples(
    prompt_rows: Sequence[PromptRow],
    completions: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
    threshold: float,
    per_prompt: int,
    constructed: str = "rejection sampling",
) -> list[ChatRow]:
    """The first ``per_prompt`` distinct completions of each prompt that score at least ``threshold``.

    ``completions[i][k]`` answers ``prompt_rows[i]`` and was scored ``scores[i][k]``. Completions that differ in the
    white space around them count as one. ``constructed`` is the rows' slice of that name; the prompt row is their
    parent.

    Shapes: completions and scores [P][K], K free for each prompt.
    Edge cases: a blank completion and one scored NaN are passed over; a prompt without an accepted one gives no row;
        empty: [].
    Source: rejection-sampling fine-tuning, RAFT (arXiv 2304.06767) and arXiv 2308.01825 (distinct answers kept);
        sequence-level distillation (arXiv 1606.07947).

    Raises:
        ValueError: rows, completions and scores of different lengths, or per_prompt below 1.
    """
    if per_prompt < 1:
        raise ValueError(f"per_prompt {per_prompt}: keeps nothing")
    rows = []
    for row, texts, marks in zip(prompt_rows, completions, scores, strict=True):
        accepted: dict[str, str] = {}
        for text, mark in zip(texts, marks, strict=True):
            if text.strip() and not math.isnan(mark) and mark >= threshold:
                accepted.setdefault(text.strip(), text)
        rows += [
            ChatRow(
                (*row.prompt, Message("assistant", text)),
                slices={**row.slices, "constructed": constructed},
                origin=Origin(parents=(row.id,)),
            )
            for text in list(accepted.values())[:per_prompt]
        ]
    return rows
