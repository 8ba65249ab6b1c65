"""What a pairwise judge is: asked which of two answers is better, in the order it is shown them. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.judges.pairs import AnswerPair


@dataclass(frozen=True)
class Question:
    """A pair as it is shown: ``a`` first, or ``b`` first where it is ``swapped``."""

    pair: AnswerPair
    swapped: bool

    @property
    def first(self) -> str:
        return self.pair.b if self.swapped else self.pair.a

    @property
    def second(self) -> str:
        return self.pair.a if self.swapped else self.pair.b


@dataclass(frozen=True)
class Verdict:
    """``first``: 1 where the answer shown first is better, 0 where the second is, 1/2 for a tie.

    None where the judge gave no verdict: ``status`` is then parse_failed (it said nothing that can be read) or unscored
    (it was not asked, as a person who has not labelled the item). ``note`` says why, for people. ``turned``: it was
    given in the other order, and nobody was asked in this one: it tells nothing of the order's part.
    """

    first: float | None
    status: str = "ok"
    note: str = ""
    turned: bool = False


class PairwiseJudge(Protocol):
    """A model with a prompt, a reward model, or people's labels."""

    @property
    def name(self) -> str: ...

    @property
    def order_matters(self) -> bool:
        """Whether the verdict can depend on which answer is shown first, as far as is known."""

    @property
    def temperature(self) -> float:
        """Above 0: asked again with another ``draw``, it may say something else."""

    @property
    def reads_anything(self) -> bool:
        """Whether it can be asked about answers that nobody has labelled: null baselines need that."""

    def verdicts(self, questions: Sequence[Question], draw: int = 0, progress: Progress = ignore) -> list[Verdict]:
        """A verdict for every question, in their order."""
