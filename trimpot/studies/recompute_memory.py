"""Segments of √n blocks: does memory grow with the root of the depth, for one more forward pass and equal gradients?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trimpot.core.seeds import seed_for, stream
from trimpot.models.recompute import recomputed
from trimpot.probes.recompute.block import Stack
from trimpot.probes.recompute.check import check_gradients
from trimpot.probes.recompute.measure import Pass, RecomputeSettings
from trimpot.studies.measures import Arms, Clearance, Difference, Level, Metrics, Slope
from trimpot.studies.study import Budget, Chart, Settings, Study, Values


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Nothing is shared: shape, weights and input are drawn by the seed."""


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Measures a stack of a shape that the seed draws: ``peak`` bytes of forward and backward, ``operations`` (natural
    logarithm) of matrix products, ``seconds``, and relative ``difference`` of gradients from those without.
    """
    draw = stream(seed, "recompute memory", "shape")
    heads, size, tokens = draw.choice((2, 4)), draw.choice((8, 16)), draw.randrange(16, 65)
    stack = Stack(int(values["blocks"]), heads * size, heads, dropout=0.1, seed=seed_for(seed, "weights"))
    states = torch.randn(2, tokens, heads * size, generator=torch.Generator().manual_seed(seed_for(seed, "input")))
    parameters, mode, every = dict(stack.named_parameters()), str(values["mode"]), int(values["every"])
    again = partial(recomputed, keep_random_state=values["random_state"] == "kept")

    def loss() -> torch.Tensor:
        return stack(states).square().mean()

    work = Pass(loss, parameters, list(stack.blocks), RecomputeSettings(repeats=settings["repeats"]), again)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "dropout"))
        work.seconds("none", 1)
        found = {"peak": float(work.peak(mode, every)), "seconds": work.seconds(mode, every)}
        found["operations"] = math.log(work.operations(mode, every))
    checked = check_gradients(loss, parameters, work.forwards(mode, every), seed_for(seed, "dropout"))
    return {**found, "difference": checked.difference}


@dataclass(frozen=True)
class Exponent:
    """The exponent b of metric ∝ knob^b, less what it is expected to be: 2, 4, 8 at 1, 4, 16 is 0 more than 0.5."""

    slope: Slope
    expected: float

    @property
    def words(self) -> str:
        return self.slope.words

    def applies(self, arms: Arms) -> bool:
        return self.slope.applies(arms)

    def value(self, arms: Arms, metrics: Metrics) -> float | None:
        found = self.slope.value(arms, metrics)
        return None if found is None else found - self.expected

    def describe(self) -> dict[str, Any]:
        return {"kind": "exponent", **asdict(self)}


def _arm(blocks: int, mode: str, every: int = 1, state: str = "kept", again: int = 0) -> Values:
    return {"blocks": blocks, "mode": mode, "every": every, "random_state": state, "again": again}


def _arms(*depths: int) -> Mapping[str, Values]:
    arms = {f"root, {n}": {**_arm(n, "every", math.isqrt(n)), "way": "root"} for n in depths}
    arms |= {f"none, {n}": {**_arm(n, "none"), "way": "none"} for n in (depths[0], MIDDLE, depths[-1])}
    others = {f"full, {MIDDLE}": _arm(MIDDLE, "full"), "random state lost": _arm(MIDDLE, "full", state="lost"),
              f"full, {MIDDLE}, again": _arm(MIDDLE, "full", again=1)}  # fmt: skip
    return arms | {name: {**values, "way": "full"} for name, values in others.items()}


MIDDLE = 16
ROOT, KEPT = {"way": "root"}, {"random_state": "kept"}
EXPONENT = Slope("peak", "blocks", "exponent of peak memory in blocks, less 0.5", log=True, where=ROOT)
STUDY = Study(
    id="recompute-memory",
    question="Do segments of √n blocks keep memory at the root of the depth, and at what price?",
    model="stacks of 4 to 64 transformer blocks",
    scale=(
        "random pre-norm blocks with dropout, 16 to 64 wide, 2 rows of 16 to 64 tokens, shape by seed; float32, CPU;"
        " torch.utils.checkpoint without reentrance; peak of live tensors, weights and gradients not counted"
    ),
    tests={
        "root": Exponent(EXPONENT, 0.5),
        "memory": Difference("peak", "root, 64", "none, 64", "logarithm of the peak's ratio, root over none", log=True),
        "time": Difference("seconds", f"full, {MIDDLE}", f"none, {MIDDLE}", "logarithm of the time's ratio", log=True),
        "operations": Clearance("operations", f"full, {MIDDLE}", f"none, {MIDDLE}", math.log(4 / 3),
                                "logarithm of the operations' ratio less that of 4/3, one more forward pass"),
        "gradients": Level("difference", "largest relative difference of gradients, random state kept", KEPT),
        "random state": Level("difference", "the same, random state lost", {"random_state": "lost"}),
    },
    claims={
        "checkpointing-root-memory": "root", "checkpointing-saves-memory": "memory", "checkpointing-costs-time": "time",
        "checkpointing-one-forward": "operations", "checkpointing-same-gradients": "gradients",
        "checkpointing-needs-random-state": "random state",
    },
    margins={"checkpointing-root-memory": 0.1, "checkpointing-one-forward": 0.02, "checkpointing-same-gradients": 1e-6},
    budgets={
        "quick": Budget(_arms(4, 16, 64), 5, {"repeats": 3}, minutes=1.0),
        "full": Budget(_arms(4, 9, 16, 25, 36, 49, 64), 8, {"repeats": 9}, minutes=4.0),
    },
    prepare=prepare,
    run=run,
    control=Difference("seconds", f"full, {MIDDLE}", f"full, {MIDDLE}, again", "the same timed twice", log=True),
    chart=Chart("peak", "blocks", "way", {**KEPT, "again": 0}, "peak bytes of activations", "blocks", "recomputed"),
)  # fmt: skip
