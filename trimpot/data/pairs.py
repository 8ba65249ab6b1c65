"""Preference pairs constructed from a model's own completions by a verifier's scores."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.rows import Message, Origin, PreferencePair, PromptRow

RIGHT_FROM = 0.5
"""A completion scored at least this is right, below it wrong; a NaN is neither."""


def pairs_from_samples(
    prompt_rows: Sequence[PromptRow], completions: Sequence[Sequence[str]], scores: Sequence[Sequence[float]]
) -> list[PreferencePair]:
    """One pair for each prompt with a right and a wrong completion: the first right one over the first wrong one.

    ``completions[i][k]`` answers ``prompt_rows[i]`` and was scored ``scores[i][k]`` by the verifier. The pairs are
    called constructed in their slices, for no human preferred anything; the prompt row is their parent.

    Shapes: completions and scores [P][K], K free for each prompt.
    Edge cases: a prompt without both kinds gives no pair; a blank completion is passed over; empty: [].

    Raises:
        ValueError: rows, completions and scores of different lengths.
    """
    pairs = []
    for row, texts, marks in zip(prompt_rows, completions, scores, strict=True):
        scored = [(text, mark) for text, mark in zip(texts, marks, strict=True) if text.strip()]
        right = next((text for text, mark in scored if mark >= RIGHT_FROM), None)
        wrong = next((text for text, mark in scored if mark < RIGHT_FROM), None)
        if right is None or wrong is None:
            continue
        pairs.append(
            PreferencePair(
                prompt=row.prompt,
                chosen=(Message("assistant", right),),
                rejected=(Message("assistant", wrong),),
                slices={**row.slices, "constructed": "verifier"},
                origin=Origin(parents=(row.id,)),
            )
        )
    return pairs
