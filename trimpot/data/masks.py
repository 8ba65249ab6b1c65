"""Which pieces of a conversation are targets of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.errors import UsageError
from trimpot.data.turns import WHERE, Piece

MASKS = ("assistant", "completion", "last_turn", "all")
ANSWER_MASKS = ("assistant", "last_turn")
"""Masks under which every target should lie in an answer; the others train on what users and tools say by choice."""


def supervised_pieces(mask: str, pieces: Sequence[Piece], first: int | None) -> list[bool]:
    """Which pieces are targets; the tokens are the same under every mask.

    Args:
        mask: ``assistant``: every answer. ``completion``: everything after the prompt, which ends where the first
            answer begins; what users and tools say later is a target too, as in TRL's ``completion_only_loss``.
            ``last_turn``: the last answer. ``all``: everything.
        pieces: of a conversation that ends with an answer.
        first: the piece that begins where the first answer does. None: the template shows it nowhere.

    Raises:
        UsageError: ``completion``, and no first piece.
    """
    if mask == "assistant":
        return [piece.answer for piece in pieces]
    if mask == "last_turn":
        return [index == len(pieces) - 1 for index in range(len(pieces))]
    if mask == "all":
        return [True] * len(pieces)
    if first is None:
        problem = "rewrites the prompt once more turns follow, so that mask: completion has no beginning"
        raise UsageError(WHERE, problem, "Choose mask: last_turn, or another chat template.")
    return [index >= first for index in range(len(pieces))]
