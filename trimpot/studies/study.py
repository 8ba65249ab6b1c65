"""What a study is: arms, seeds and a decision rule, all of it hashed before the first run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.knobs.schema import Claim
from trimpot.studies.code import code_of
from trimpot.studies.measures import Arms, Difference, Measure

Values = Mapping[str, float | str]
"""Knob -> value of an arm: a number, or a word where the knob is a choice."""
Settings = Mapping[str, Any]
Prepare = Callable[[Settings, int, Path], None]
Run = Callable[[Values, Settings, int, Path], Mapping[str, float]]

DECIDES = tuple(Path(__file__).parent / name for name in ("decide.py", "tune.py"))
"""Choose what is counted and make verdicts of the numbers, so they are part of every plan's code."""

RULE = (
    "One number per seed and test; the mean over seeds with a 95% t interval. A claim that the mean is above (below) 0"
    " is confirmed when Holm's adjusted p is at most 0.05 and the mean has the claim's sign, refuted when that p is at"
    " most 0.05 and the mean has the other sign. A claim that it is equal to 0 has a margin: it is confirmed when the"
    " 90% interval lies within the margin on both sides (two one-sided tests at 0.05), refuted when the 95% interval"
    " lies wholly outside it; Holm does not adjust these two. Everything else is inconclusive. When the 99% interval of"
    " the control, two arms that differ in nothing, excludes 0, every verdict is inconclusive."
)


@dataclass(frozen=True)
class Tuning:
    """The same effort for every arm: which values of a knob it tries before the counted runs, and how one is chosen.

    Every arm runs with every value on ``seeds``, which are never counted; it keeps the value with the highest mean of
    ``metric`` (``lowest``: the lowest), of equal ones the first. The second arm of the control takes the choice of the
    first, as the two may differ in nothing.
    """

    knob: str = "learning_rate"
    values: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    metric: str = "accuracy"
    seeds: tuple[int, ...] = (0, 1)
    lowest: bool = False


@dataclass(frozen=True)
class Budget:
    """How much of a study is run: its arms (name -> knob values), seeds, and the settings every arm shares.

    ``minutes``: wall minutes on two cores, measured. ``tuning_seeds``: so many of the tuning's seeds are used; None:
    all of them.
    """

    arms: Arms
    seeds: int
    settings: Settings
    minutes: float = 6.0
    tuning_seeds: int | None = None


@dataclass(frozen=True)
class Chart:
    """What is drawn of a study: a metric against a knob, one line for each value of the knob ``group``.

    Only arms whose other knobs are as ``where`` says are drawn. ``log``: the metric's axis is logarithmic, and the mean
    geometric. The knob's axis is logarithmic where all its values are above 0, linear where one is not; words stand
    side by side in the order of the arms.

    ``along``: points of a run, such as epochs, at each of which it left its metrics under METRIC@POINT. Then ``knob``
    is a metric too: a line goes through an arm's points in their order, at the means over seeds.
    """

    metric: str
    knob: str
    group: str | None = None
    where: Values = field(default_factory=dict)
    metric_title: str = ""
    knob_title: str = ""
    group_title: str = ""
    log: bool = True
    along: tuple[float, ...] = ()


@dataclass(frozen=True)
class Study:
    """A question with its arms and its decision rule (RULE).

    ``tests`` name -> the quantity measured once per seed over the arms; ``claims`` claim id -> the test that decides
    it; ``margins`` claim id -> what counts as equal, in the units of its test, for claims of the direction equal.
    ``control`` is a difference of two arms that is truly 0. Seeds count up from ``first_seed``: seeds on which the
    settings were chosen are left out, as they would favour the claim.

    ``model`` and ``scale`` say on what: a verdict holds there. ``kinds``: which rows of the user's own it can run on
    (pairs, prompts, chats); none: it cannot run on a user's model.

    ``prepare(settings, seed, folder)`` leaves in the folder what all arms of a seed share, so that arms are compared
    on the same base model and data; ``run(values, settings, seed, folder)`` gives one arm's metrics, a function of
    its arguments alone. With ``tuning``, ``values`` also holds the knob that is tuned. Both are functions of a module:
    they run in processes of their own.
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
    tuning: Tuning | None = None
    margins: Mapping[str, float] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()

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

    def tuning_seeds(self, budget: Budget) -> tuple[int, ...]:
        """The seeds on which every arm is tuned; none without tuning.

        Raises:
            ValueError: the budget asks for none of the tuning's seeds, or for more than there are.
        """
        if self.tuning is None:
            return ()
        count = len(self.tuning.seeds) if budget.tuning_seeds is None else budget.tuning_seeds
        if not 1 <= count <= len(self.tuning.seeds):
            raise ValueError(f"{self.id}: {count} tuning seeds of {len(self.tuning.seeds)}")
        return self.tuning.seeds[:count]

    def plan(self, budget: str, seeds: int, claims: Mapping[str, Claim]) -> dict[str, Any]:
        """All that the verdicts follow from, JSON-able: the words of the claims, arms, seeds, rule, and the code.

        ``claims`` are those of the library by id.

        Raises:
            UsageError: unknown budget; a claim of equality without a margin, or a margin that is not above 0.
            ValueError: a seed is both tuned on and counted.
        """
        chosen = self.budget(budget)
        tests, counted = self.tests_of(chosen), [self.first_seed + number for number in range(seeds)]
        tuned = self.tuning_seeds(chosen)
        if set(tuned) & set(counted):
            raise ValueError(f"{self.id}: the seeds {sorted(set(tuned) & set(counted))} are both tuned on and counted")
        tuning = None if self.tuning is None else {**asdict(self.tuning), "seeds": tuned}
        plan = {
            "study": self.id,
            "question": self.question,
            "model": self.model,
            "scale": self.scale,
            "budget": budget,
            "claims": {
                name: self._planned(claims[name], tests[test].words) | {"test": test}
                for name, test in self.claims.items()
                if test in tests
            },
            "tests": {name: test.describe() for name, test in tests.items()},
            "control": None if self.control is None else self.control.describe(),
            "rule": RULE,
            "arms": {name: dict(values) for name, values in chosen.arms.items()},
            "tuning": tuning,
            "seeds": counted,
            "settings": dict(chosen.settings),
            "code": code_of((self.prepare, self.run), DECIDES),
        }
        # As a file gives it back: no tuples.
        whole: dict[str, Any] = json.loads(json.dumps(plan))
        return whole

    def _planned(self, claim: Claim, quantity: str) -> dict[str, Any]:
        margin = self.margins.get(claim.id)
        if claim.direction == "equal" and not (margin is not None and margin > 0):
            mend = "Give the study margins: {claim: what counts as equal}."
            raise UsageError(f"study {self.id}", f"claim {claim.id!r} says equal and has the margin {margin}", mend)
        return {
            "statement": claim.statement,
            "direction": claim.direction,
            "margin": margin,
            "refuted_by": refuted_by(claim, quantity, margin),
        }


def refuted_by(claim: Claim, quantity: str, margin: float | None) -> str:
    """The outcome that refutes a claim, in words."""
    if claim.direction == "equal":
        return f"{quantity}: the 95% interval of the mean lies wholly outside ±{margin:g}"
    other = "below" if claim.direction == "up" else "above"
    return f"{quantity}: the mean is {other} 0, with an adjusted p of at most 0.05"
