"""What a study is: arms, seeds and a decision rule, all of it hashed before the first run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.core.hashing import bytes_hash
from trimpot.studies.measures import Arms, Difference, Measure

Values = Mapping[str, float]
Settings = Mapping[str, Any]
Prepare = Callable[[Settings, int, Path], None]
Run = Callable[[Values, Settings, int, Path], Mapping[str, float]]

PACKAGE = Path(__file__).parent.parent
CODE = ("core", "data", "detectors", "models", "objectives", "rollout", "training", "studies")
"""Packages that a run's numbers can depend on: a change in them makes the plan another plan."""

RULE = (
    "One number per seed and test; the mean over seeds with a 95% t interval. A claim is confirmed when Holm's adjusted"
    " p is at most 0.05 and the mean has the claim's sign, refuted when it has the other sign, else inconclusive. When"
    " the 99% interval of the control excludes 0, every verdict is inconclusive."
)


@dataclass(frozen=True)
class Budget:
    """How much of a study is run: its arms (name -> knob values), seeds, and the settings every arm shares."""

    arms: Arms
    seeds: int
    settings: Settings


@dataclass(frozen=True)
class Chart:
    """What is drawn of a study: a metric against a knob, one line for each value of the knob ``group``.

    Both axes are logarithmic. Only arms whose other knobs are as ``where`` says are drawn.
    """

    metric: str
    knob: str
    group: str
    where: Values
    metric_title: str
    knob_title: str
    group_title: str


@dataclass(frozen=True)
class Study:
    """A question with its arms and its decision rule (RULE).

    ``tests`` name -> the quantity measured once per seed over the arms; ``claims`` claim id -> the test that decides
    it. ``control`` is a difference of two arms that is truly 0. Seeds count up from ``first_seed``: seeds on which the
    settings were chosen are left out, as they would favour the claim.

    ``model`` and ``scale`` say on what: a verdict holds there.

    ``prepare(settings, seed, folder)`` leaves in the folder what all arms of a seed share, so that arms are compared
    on the same base model and data; ``run(values, settings, seed, folder)`` gives one arm's metrics, a function of
    its arguments alone. Both are functions of a module: they run in processes of their own.
    """

    id: str
    question: str
    model: str
    scale: str
    tests: Mapping[str, Measure]
    claims: Mapping[str, str]
    budgets: Mapping[str, Budget]
    prepare: Prepare
    run: Run
    control: Difference | None = None
    chart: Chart | None = None
    first_seed: int = 0

    def budget(self, name: str) -> Budget:
        """The budget of that name.

        Raises:
            UsageError: there is none; names the nearest.
        """
        if name not in self.budgets:
            raise UsageError(f"budget {name!r}", f"is not one of {self.id}", nearest(name, self.budgets))
        return self.budgets[name]

    def tests_of(self, budget: Budget) -> dict[str, Measure]:
        """The tests whose arms the budget runs."""
        return {name: test for name, test in self.tests.items() if test.applies(budget.arms)}

    def plan(self, budget: str, seeds: int, statements: Mapping[str, str]) -> dict[str, Any]:
        """All that the verdicts follow from, JSON-able: the words of the claims, arms, seeds, rule, and the code."""
        chosen = self.budget(budget)
        tests = self.tests_of(chosen)
        return {
            "question": self.question,
            "model": self.model,
            "scale": self.scale,
            "budget": budget,
            "claims": {
                claim: {"statement": statements[claim], "test": test}
                for claim, test in self.claims.items()
                if test in tests
            },
            "tests": {name: test.describe() for name, test in tests.items()},
            "control": None if self.control is None else self.control.describe(),
            "rule": RULE,
            "arms": {name: dict(values) for name, values in chosen.arms.items()},
            "seeds": [self.first_seed + number for number in range(seeds)],
            "settings": dict(chosen.settings),
            "code": code_hash(),
        }


def code_hash(package: Path = PACKAGE) -> str:
    """A hash of the source of everything a run's numbers can depend on."""
    files = sorted(file for part in CODE for file in (package / part).rglob("*.py"))
    return bytes_hash(part for file in files for part in (str(file.relative_to(package)).encode(), file.read_bytes()))
