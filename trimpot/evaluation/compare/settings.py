"""How two evaluations are compared."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings, setting
from trimpot.statistics.sequential import boundaries

MEAN = "mean"
_PASS = re.compile(r"pass([@^])([1-9][0-9]*)")


@dataclass(frozen=True)
class CompareSettings:
    """Settings of a comparison; ``trimpot compare`` and the ``compare`` part of a gate set them.

    ``looks`` above 1: this is look number ``look`` of so many at the same growing data, and ``spending`` says how the
    error is spread over them; the interval and the level of better and worse are then those of the look.
    """

    margin: float = setting(0.02, "the smallest difference that matters, in units of the score", at_least=0)
    level: float = setting(0.95, "of intervals; 1 − level is the error of verdicts", above=0.5, at_most=0.999)
    power: float = setting(
        0.8, "power of the smallest detectable effect and of the items needed", "Miller 2024", above=0.1, at_most=0.99
    )
    correction: str = setting("holm", "for many slices", "Holm 1979", choices=("holm", "bh"))
    score: str = setting(MEAN, "several samples of an item become one score: mean, pass@K or pass^K")
    slices: tuple[str, ...] = ()
    looks: int = setting(1, "how often the same comparison will be looked at while data comes in", at_least=1)
    look: int = setting(1, "which of these looks this is", at_least=1)
    spending: str = setting(
        "obrien_fleming", "how the error is spread over looks", "Lan and DeMets 1983",
        choices=("obrien_fleming", "pocock"),
    )  # fmt: skip

    def check(self, where: str = "compare") -> None:
        """Refuses what cannot be.

        Raises:
            UsageError: a setting out of range; one line that names it.
        """
        check_settings(self, where)
        if self.score != MEAN and not _PASS.fullmatch(self.score):
            raise UsageError(f"{where}.score", f"{self.score!r} is no score", "Give mean, pass@4 or pass^4.")
        if self.look > self.looks:
            raise UsageError(f"{where}.look", f"look {self.look} of {self.looks}", "Give one of the looks.")

    @property
    def pass_k(self) -> tuple[str, int] | None:
        """("any" or "all", k) of pass@k or pass^k; None for the mean."""
        found = _PASS.fullmatch(self.score)
        return None if found is None else ("any" if found[1] == "@" else "all", int(found[2]))

    @property
    def alpha(self) -> float:
        """The two-sided level at which a difference counts at this look."""
        if self.looks == 1:
            return 1 - self.level
        fractions = [number / self.looks for number in range(1, self.look + 1)]
        return boundaries(fractions, self.level, self.spending)[-1].p_value  # type: ignore[arg-type]
