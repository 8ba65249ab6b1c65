"""The one loop that every objective trains in. It yields a Step after each update; others write, watch and print."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from trimpot.core.samples import Draw
from trimpot.core.stats import Stat, add_stats
from trimpot.core.tensors import Objective, pack
from trimpot.statistics.correlation import pearson
from trimpot.training.optimizer import build_optimizer, clip_gradients, learning_rate
from trimpot.training.settings import LoopSettings, OptimizerSettings
from trimpot.training.streams import Reference, Trainee, compute_streams, fixed_streams


class Source(Protocol):
    """Where samples come from. A draw is a function of seed, step and weights alone, so there is no state to save.

    The policy is a Policy for rollouts; a dataset does not look at it.
    """

    def draw(self, step: int, policy: Any) -> Draw: ...


@dataclass(frozen=True)
class Step:
    """One update: metrics by name (None: nothing to measure), ids of the rows it used, records to keep."""

    number: int
    metrics: Mapping[str, float | None]
    row_ids: tuple[str, ...]
    records: tuple[Mapping[str, object], ...]


@dataclass
class TrainState:
    """All that a checkpoint must hold beside settings and data: weights, optimiser, the number of steps done."""

    trainee: Trainee
    optimizer: torch.optim.AdamW
    step: int = 0

    @classmethod
    def new(cls, trainee: Trainee, settings: OptimizerSettings) -> TrainState:
        return cls(trainee, build_optimizer(trainee.trainable(), settings))


@dataclass(frozen=True)
class Plan:
    """What is trained on what: objective, source, settings, and the reference if the objective needs one."""

    objective: Objective
    source: Source
    loop: LoopSettings
    optimizer: OptimizerSettings
    reference: Reference | None = None
    temperature: float = 1.0


def train(state: TrainState, plan: Plan) -> Iterator[Step]:
    """Trains from ``state.step`` to the last step, yielding after each; the state is then ready for a checkpoint."""
    for number in range(state.step + 1, plan.loop.steps + 1):
        began = time.perf_counter()
        draw = plan.source.draw(number, state.trainee)
        drawn = time.perf_counter()
        stats, losses = accumulate(state.trainee, draw, plan)
        norm = clip_gradients(state.trainee.trainable().values(), plan.optimizer.max_grad_norm)
        rate = learning_rate(number, plan.loop.steps, plan.optimizer)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        # A step without a finite gradient is skipped, not taken: the weights stay good and the detector speaks.
        if math.isfinite(norm):
            state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step = number
        tokens = sum(sample.tokens for sample in draw.samples)
        seconds = time.perf_counter() - began
        metrics: dict[str, float | None] = {
            **losses,
            # What the source counted over all its completions stands before the same count over those with a pass.
            **{name: stat.value for name, stat in {**stats, **draw.stats}.items() if name != "loss"},
            "grad_norm": norm,
            "learning_rate": rate,
            "num_tokens": float(tokens),
            "num_target_tokens": float(sum(sample.targets for sample in draw.samples)),
            "seconds": seconds,
            "draw_seconds": drawn - began,
            "tokens_per_second": tokens / seconds,
        }
        yield Step(number, metrics, tuple(sample.row_id for sample in draw.samples), draw.records)


def accumulate(trainee: Trainee, draw: Draw, plan: Plan) -> tuple[dict[str, Stat], dict[str, float | None]]:
    """Backward passes of one step: every term is divided by its own count over the whole step, never per batch.

    Idle samples are counted and get no pass, so leaving them out changes neither loss nor gradient. When all are idle
    there is no gradient, and the optimiser leaves the weights alone.
    Returns the statistics of the step and what does not add up over batches: ``loss``, with more than one term
    ``loss/<term>``, and a reward model's ``reward_length_correlation`` (rewards against lengths in target tokens).
    """
    counts: dict[str, float] = {}
    budget, device = plan.loop.micro_batch_tokens, str(trainee.device)
    for batch in pack(draw.samples, budget, device):
        for term in plan.objective(fixed_streams(batch)).terms:
            counts[term.name] = counts.get(term.name, 0.0) + term.count
    totals: dict[str, float] = {}
    stats, rewards, lengths = [], [], []
    live = [sample for position, sample in enumerate(draw.samples) if position not in draw.idle]
    for batch in pack(live, budget, device) if live else ():
        streams = compute_streams(trainee, batch, plan.objective, plan.reference, plan.temperature)
        out = plan.objective(streams)
        if streams.reward_S is not None:
            rewards += streams.reward_S.detach().tolist()
            lengths += streams.lengths_S().double().tolist()
        loss = torch.zeros((), device=batch.ids_T.device)
        for term in out.terms:
            if counts[term.name]:
                share = term.weight * term.total / counts[term.name]
                loss = loss + share
                totals[term.name] = totals.get(term.name, 0.0) + float(share.detach())
        if loss.requires_grad:
            loss.backward()
        stats.append(out.stats)
    losses: dict[str, float | None] = {"loss": sum(totals.values()) if totals or not live else None}
    if len(counts) > 1:
        losses.update({f"loss/{name}": value for name, value in totals.items()})
    if rewards and all(math.isfinite(reward) for reward in rewards):
        losses["reward_length_correlation"] = pearson(rewards, lengths).value
    return add_stats(stats), losses
