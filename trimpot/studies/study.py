"""What a study is: arms, seeds and a decision rule, all of it hashed before the first run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trimpot.core.hashing import bytes_hash
from trimpot.studies.measures import Difference, Measure

Settings = Mapping[str, Any]
Metrics = Mapping[str, float]
Prepare = Callable[[Settings, int, Path], None]
Run = Callable[["Arm", Settings, int, Path], Metrics]
PACKAGE = Path(__file__).parent.parent
# What a run's numbers can depend on; a change in any of these files makes the plan another plan.
CODE = ("core", "data", "models", "objectives", "rollout", "training", "studies")


@dataclass(frozen=True)
class Arm:
    """One setting of the knobs under study. ``values`` are numbers, by the knob's name."""

    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Budget:
    """How much of the study is run: its arms, how many seeds, and the settings every arm shares."""

    arms: tuple[Arm, ...]
    seeds: int
    settings: Settings


@dataclass(frozen=True)
class Study:
    """A question with its arms and its decision rule.

    ``tests`` name -> the quantity measured once per seed over the arms; ``claims`` claim id -> the test that decides
    it. The rule: the mean over seeds with a 95% t interval. A claim is confirmed when Holm's adjusted p is at most
    0.05 and the mean has the claim's sign, refuted when it has the other sign, inconclusive otherwise. ``control`` is
    a difference of two arms that is truly 0: when its 99% interval excludes 0, every verdict is inconclusive.

    ``prepare(settings, seed, folder)`` leaves in the folder what all arms of a seed share, so that arms are compared
    on the same base model and data; ``run(arm, settings, seed, folder)`` gives one arm's metrics. Both are functions
    of a module: they run in processes of their own.
    """

    id: str
    question: str
    scale: str
    tests: Mapping[str, Measure]
    claims: Mapping[str, str]
    budgets: Mapping[str, Budget]
    prepare: Prepare
    run: Run
    control: Difference | None = None
    chart: Mapping[str, str] = field(default_factory=dict)

    def tests_of(self, budget: Budget) -> dict[str, Measure]:
        """The tests whose arms the budget runs."""
        return {name: test for name, test in self.tests.items() if test.applies(budget.arms)}

    def plan(self, budget: str, seeds: int, statements: Mapping[str, str]) -> dict[str, Any]:
        """All that the verdicts follow from, JSON-able: the words of the claims, arms, seeds, rule, and the code."""
        chosen = self.budgets[budget]
        tests = self.tests_of(chosen)
        return {
            "question": self.question,
            "scale": self.scale,
            "budget": budget,
            "claims": {
                claim: {"statement": statements[claim], "test": test}
                for claim, test in self.claims.items()
                if test in tests
            },
            "tests": {name: test.describe() for name, test in tests.items()},
            "control": self.control and self.control.describe(),
            "rule": (Study.__doc__ or "").split("The rule: ")[1].split("\n\n")[0],
            "arms": {arm.name: dict(arm.values) for arm in chosen.arms},
            "seeds": list(range(seeds)),
            "settings": dict(chosen.settings),
            "code": code_hash(),
        }


def code_hash(package: Path = PACKAGE) -> str:
    """A hash of the source of everything a run's numbers can depend on."""
    files = sorted(file for part in CODE for file in (package / part).rglob("*.py"))
    return bytes_hash(
        chunk for file in files for chunk in (str(file.relative_to(package)).encode(), file.read_bytes())
    )


def as_plain(value: Any) -> dict[str, Any]:
    """A dataclass as JSON-able data with the name of its class."""
    return {"kind": type(value).__name__, **asdict(value)}
