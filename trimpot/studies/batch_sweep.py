"""Training to a goal at several batch sizes: a tiny model on text without end, its steps and their noise.

Shape suffixes: C contexts of two letters, L letters, R rows, T letters of a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from trimpot.core.progress import Progress, ignore
from trimpot.core.samples import Branch, Draw, Sample
from trimpot.core.seeds import seed_for
from trimpot.core.tensors import pack
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.statistics.critical_batch import SweepRun
from trimpot.statistics.noise_scale import Moments, noise_scale
from trimpot.studies.study import Settings
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.settings import LoopSettings, OptimizerSettings

HELD_OUT, FIRST_LOOK, SPACING = 128, 10, 1.06
"""Rows that the goal is measured on, the first step after which it is, and the ratio of one such step to the next."""
WINDOWS = 6
"""Parts of a run, alike in steps, in each of which the noise scale is a ratio of means."""


@dataclass(frozen=True)
class MarkovText:
    """Random text in which a letter depends on the two before it, so that its entropy is known.

    Constructed: ``letters`` (8) letters, each pair of them followed by a letter from a distribution of its own, drawn
    from a Dirichlet distribution with parameter 0.3; rows of ``length`` (32) letters.
    """

    seed: int
    letters: int = 8
    length: int = 32

    @cached_property
    def table_CL(self) -> np.ndarray:
        """Probability of the next letter by the two before it: row i·L + j for i, then j."""
        random = np.random.default_rng(seed_for(self.seed, "markov text"))
        return random.dirichlet(np.full(self.letters, 0.3), self.letters**2)

    @cached_property
    def entropies(self) -> tuple[float, float]:
        """Nats of a letter for who knows the letter before it, and for who knows the two before it."""
        count = self.letters
        pairs_C = np.full(count**2, 1 / count**2)
        for _ in range(500):
            joint = (pairs_C[:, None] * self.table_CL).reshape(count, count, count)
            pairs_C = joint.sum(0).flatten()
        two = -(pairs_C[:, None] * self.table_CL * np.log(self.table_CL + 1e-300)).sum()
        after_LL = (pairs_C[:, None] * self.table_CL).reshape(count, count, count).sum(0)
        one = -(after_LL * np.log(after_LL / after_LL.sum(1, keepdims=True) + 1e-300)).sum()
        return float(one), float(two)

    def rows_RT(self, count: int, *names: str | int) -> np.ndarray:
        """So many rows of letters, drawn anew for every name."""
        random = np.random.default_rng(seed_for(self.seed, "rows", *names))
        cumulative = self.table_CL.cumsum(1)
        rows = np.zeros((count, self.length + 2), dtype=np.int64)
        rows[:, :2] = random.integers(self.letters, size=(count, 2))
        for place in range(2, self.length + 2):
            context = rows[:, place - 2] * self.letters + rows[:, place - 1]
            drawn = (cumulative[context] < random.random((count, 1))).sum(1)
            rows[:, place] = np.minimum(drawn, self.letters - 1)
        return rows[:, 2:]

    def samples(self, policy: Policy, count: int, *names: str | int) -> tuple[Sample, ...]:
        """The same as samples, of which every letter but the first is a target."""
        first = policy.tokenizer.convert_tokens_to_ids("a")
        supervised = (False, *[True] * (self.length - 1))
        rows = (self.rows_RT(count, *names) + first).tolist()
        return tuple(Sample(f"{number}", (), (Branch(tuple(row), supervised),)) for number, row in enumerate(rows))


@dataclass(frozen=True)
class FreshText:
    """A source of rows that never come back, so that the rows of a step are independent, as the theory has them."""

    text: MarkovText
    policy: Policy
    batch: int
    order: int

    steps_per_draw = 1

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        return Draw(self.text.samples(self.policy, self.batch, "train", self.order, step))


@dataclass(frozen=True)
class Reached:
    """A run to the goal: ``steps``, interpolated between two looks at the loss (None: not within the most allowed), and
    what the noise probe saw on the way.
    """

    steps: float | None
    looks: tuple[Moments, ...]


def run_to_goal(settings: Settings, seed: int, batch: int, rate: float, most: int, order: int = 0) -> Reached:
    """Trains a tiny model with AdamW at one rate until its held-out loss is at the goal.

    Settings: ``goal``: how much of the way from the entropy of pairs of letters to that of triples is left (0.5);
        ``probe``: whether the noise scale is measured, in every step. ``most``: steps, to the next look at the
        loss.
    """
    text = MarkovText(seed, int(settings.get("letters", 8)), int(settings.get("length", 32)))
    policy = tiny("0.1m", seed=seed_for(seed, "model"))
    one, two = text.entropies
    goal = two + float(settings.get("goal", 0.5)) * (one - two)
    held_out = pack(text.samples(policy, HELD_OUT, "held out"), 4096)
    optimizer = OptimizerSettings(learning_rate=rate, schedule="constant", warmup=0.0)
    probes: dict[str, Any] = {"micro_batch_tokens": 1024}
    if settings.get("probe"):  # small passes: more parts to compare
        probes = {"micro_batch_tokens": 256, "probes": ("noise_scale",), "probe_every": 1}
    looks_at = _looks_at(most)
    loop = LoopSettings(steps=looks_at[-1], batch=batch, **probes)
    plan = Plan(SupervisedFineTuning(), FreshText(text, policy, batch, order), loop, optimizer)
    looks: list[Moments] = []
    before = (0, math.inf)
    for step in train(TrainState.new(policy, optimizer), plan):
        trace, squared = (step.metrics.get(f"noise_scale/{name}") for name in ("trace", "squared_gradient"))
        if trace is not None and squared is not None:
            looks.append(Moments(squared, trace))
        if step.number in looks_at:
            loss = _loss(policy, held_out)
            if loss <= goal:
                share = (before[1] - goal) / (before[1] - loss) if math.isfinite(before[1]) else 1.0
                return Reached(before[0] + share * (step.number - before[0]), tuple(looks))
            before = (step.number, loss)
    return Reached(None, tuple(looks))


def _looks_at(most: int) -> list[int]:
    """The steps after which the loss is looked at; the last is the first of them that is not below ``most``."""
    found = [FIRST_LOOK]
    while found[-1] < most:
        found.append(max(found[-1] + 1, math.ceil(found[-1] * SPACING)))
    return found


Sweep = tuple[Sequence[int], Sequence[float], Sequence[int]]
"""Batch sizes, learning rates and seeds."""


def sweep(settings: Settings, over: Sweep, progress: Progress = ignore) -> list[SweepRun]:
    """Runs every batch size on every seed to the goal with every learning rate, and keeps the rate of the fewest steps.

    ``settings``: those of ``run_to_goal``, and ``most`` steps (6000). A rate is given up when it has taken more steps
    than the best before it.
    """
    batches, rates, seeds = over
    found: list[SweepRun] = []
    done, total = 0, len(batches) * len(rates) * len(seeds)
    for seed in seeds:
        for batch in batches:
            most = int(settings.get("most", 6000))
            best = SweepRun(batch, most, False, None, seed)
            for rate in rates:
                steps = run_to_goal(settings, seed, batch, rate, math.ceil(best.steps)).steps
                if steps is not None and (steps < best.steps or not best.reached):
                    best = SweepRun(batch, steps, True, rate, seed)
                done += 1
                progress(done, total)
            found.append(best)
    return found


@torch.no_grad()
def _loss(policy: Policy, batches: Any) -> float:
    parts = [policy.scores(batch).logprob_N for batch in batches]
    return -float(torch.cat(parts).double().mean())


def noise_on_the_way(looks: tuple[Moments, ...]) -> list[float]:
    """B_simple in each of WINDOWS parts of a run, a ratio of means in each; empty where one is not above 0.

    Their mean is what the critical batch should be: the steps of a batch B are ∫(1 + 𝓑(s)/B) ds over the steps s that
    a batch without noise takes.
    """
    size = len(looks) // WINDOWS
    parts = [looks[place * size : (place + 1) * size] for place in range(WINDOWS)] if size else []
    found = [noise_scale(part).simple.value for part in parts]
    return [value for value in found if value is not None and value > 0] if None not in found else []
