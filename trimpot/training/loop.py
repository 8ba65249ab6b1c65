"""The one loop that every objective trains in. It yields a Step after each update; others write, watch and print."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from trimpot.core.samples import Draw, Sample
from trimpot.core.stats import Stat, add_stats
from trimpot.core.tensors import (
    Batch,
    Carries,
    LossOut,
    Objective,
    Streams,
    UsesStepStatistics,
    Wanted,
    pack,
    pack_one,
)
from trimpot.probes.table import build_probes
from trimpot.statistics.correlation import pearson
from trimpot.training.gradients import KeptGradients
from trimpot.training.looks import Looks, run_apart, share_of
from trimpot.training.optimizer import build_optimizer, clip_gradients, learning_rate
from trimpot.training.settings import LoopSettings, OptimizerSettings
from trimpot.training.streams import Reference, Trainee, compute_streams, fixed_streams
from trimpot.training.world import gathered, share, sum_gradients, world

UNEQUAL_PAIRS = 8
"""Pairs with answers of unequal length that a correlation with length needs: of fewer it is chance."""


class Source(Protocol):
    """Where samples come from.

    A draw is a function of seed, step, the weights of the policy that the source holds, and the numbers ``carried``
    from step to step, so there is no state to save. A source that trains several steps on one draw says so in
    ``steps_per_draw``: a checkpoint is then written between draws only.
    """

    @property
    def steps_per_draw(self) -> int: ...

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw: ...


@dataclass(frozen=True)
class Step:
    """One update: metrics by name (None: nothing to measure), ids of the rows it used, records to keep."""

    number: int
    metrics: Mapping[str, float | None]
    row_ids: tuple[str, ...]
    records: tuple[Mapping[str, object], ...]


@dataclass
class TrainState:
    """All that a checkpoint must hold beside settings and data: weights, optimiser, the number of steps done, and the
    numbers that the objective carries from step to step.
    """

    trainee: Trainee
    optimizer: torch.optim.AdamW
    step: int = 0
    carried: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def new(
        cls, trainee: Trainee, settings: OptimizerSettings, factors: Mapping[str, float] | None = None
    ) -> TrainState:
        """``factors``: what the learning rate is multiplied by for parameters whose name begins so."""
        return cls(trainee, build_optimizer(trainee.trainable(), settings, factors or {}))


@dataclass(frozen=True)
class Plan:
    """What is trained on what: objective, source, settings, and the reference if the objective needs one."""

    objective: Objective
    source: Source
    loop: LoopSettings
    optimizer: OptimizerSettings
    reference: Reference | None = None
    temperature: float = 1.0


def train(state: TrainState, plan: Plan, past: Iterable[Mapping[str, Any]] = ()) -> Iterator[Step]:
    """Trains from ``state.step`` to the last step, yielding after each; the state is then ready for a checkpoint.

    ``past``: the metrics of the steps before, oldest first, for probes that average over what they have seen.
    """
    objective = plan.objective
    if isinstance(objective, Carries) and not state.carried:
        state.carried = dict(objective.initial())
    with KeptGradients(state.trainee.trainable().values()) as kept:
        yield from _steps(state, plan, kept, _looks(state, plan, past))


def _looks(state: TrainState, plan: Plan, past: Iterable[Mapping[str, Any]]) -> Looks | None:
    if not plan.loop.probes:
        return None
    model = next(iter(state.trainee.models().values())).model
    probes = build_probes(plan.loop.probes, plan.loop.probe_every, model)
    return Looks(probes, state.trainee.trainable(), past)


def _steps(state: TrainState, plan: Plan, kept: KeptGradients, looks: Looks | None) -> Iterator[Step]:
    objective = plan.objective
    for number in range(state.step + 1, plan.loop.steps + 1):
        began = time.perf_counter()
        draw = plan.source.draw(number, state.carried)
        drawn = time.perf_counter()
        stats, losses = accumulate(state.trainee, draw, plan, number, state.carried, kept, looks)
        rate = learning_rate(number, plan.loop.steps, plan.optimizer)
        if looks is not None:
            looks.before_update(rate)
        norm = clip_gradients(state.trainee.trainable().values(), plan.optimizer.max_grad_norm)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        # A step without a finite gradient is skipped, not taken: the weights stay good and the detector speaks.
        if math.isfinite(norm):
            state.optimizer.step()
        seen = {} if looks is None else looks.after_update()
        state.optimizer.zero_grad(set_to_none=True)
        state.step = number
        tokens = sum(sample.tokens for sample in draw.samples)
        seconds = time.perf_counter() - began
        metrics: dict[str, float | None] = {
            **losses,
            **state.carried,
            # What the source counted over all its completions stands before the same count over those with a pass.
            **{name: stat.value for name, stat in {**stats, **draw.stats}.items() if name != "loss"},
            "grad_norm": norm,
            "learning_rate": rate,
            "num_tokens": float(tokens),
            "num_pass_tokens": float(sum(one.tokens for at, one in enumerate(draw.samples) if at not in draw.idle)),
            "num_target_tokens": float(sum(sample.targets for sample in draw.samples)),
            "seconds": seconds,
            "draw_seconds": drawn - began,
            "tokens_per_second": tokens / seconds,
            **seen,
        }
        if isinstance(objective, Carries):
            state.carried = dict(objective.carry(state.carried, metrics))
        yield Step(number, metrics, tuple(sample.row_id for sample in draw.samples), draw.records)


def accumulate(
    trainee: Trainee,
    draw: Draw,
    plan: Plan,
    step: int = 0,
    carried: Mapping[str, float] | None = None,
    kept: KeptGradients | None = None,
    looks: Looks | None = None,
) -> tuple[dict[str, Stat], dict[str, float | None]]:
    """Backward passes of one step: every term is divided by its own count over the whole step, never per batch.

    Idle samples are counted and get no pass, so leaving them out changes neither loss nor gradient. When all are idle
    there is no gradient, and the optimiser leaves the weights alone. With several processes each takes its share of
    the samples, and counts, statistics and gradients are summed over all of them.
    Returns the statistics of the step and what does not add up over batches: ``loss``, with more than one term
    ``loss/<term>``, and a reward model's ``reward_length_correlation``: of the differences within pairs in reward and
    in length (target tokens), around 0, so that prompts play no part; None for fewer than UNEQUAL_PAIRS.
    """
    budget, device = plan.loop.micro_batch_tokens, str(trainee.device)
    counts = _counts(plan.objective, share(draw.samples), budget, device)
    live = share([sample for position, sample in enumerate(draw.samples) if position not in draw.idle])
    batches = pack(live, budget, device) if live else []
    wanted = Wanted(plan.objective.needs, plan.temperature, step)
    numbers, first = _step_numbers(trainee, batches, plan, wanted, carried or {})
    totals: dict[str, float] = {}
    stats, rewards, lengths = [], [], []
    if kept is not None:
        kept.begin()
    part = (0, 0.0)
    if looks is not None:
        looks.begin(step)
        part = _apart(looks, trainee, live if len(batches) == 1 else (), plan, (wanted, counts, numbers))
        if part[0] and kept is not None:
            kept.begin()
        looks.begin_others(step)
    for index, batch in enumerate(batches):
        streams = first if index == 0 and first else compute_streams(trainee, batch, wanted, plan.reference, numbers)
        out = plan.objective(streams)
        if streams.reward_S is not None:
            rewards += _differences(streams.reward_S.detach())
            lengths += _differences(streams.lengths_S().double())
        _backward(out, counts, totals)
        if looks is not None:
            looks.after_batch(len(batch.row_ids), share_of(out, counts), part)
        stats.append(out.stats)
    if kept is not None:
        kept.end()
    sum_gradients(trainee.trainable().values())
    everyone = gathered((add_stats(stats), totals, rewards, lengths))
    totals = _sums(one[1] for one in everyone)
    losses: dict[str, float | None] = {"loss": sum(totals.values()) if totals or not live else None}
    if len(counts) > 1:
        losses.update({f"loss/{name}": value for name, value in totals.items()})
    rewards, lengths = ([number for one in everyone for number in one[place]] for place in (2, 3))
    unequal = sum(length > 0 for length in lengths)
    if unequal >= UNEQUAL_PAIRS and all(math.isfinite(reward) for reward in rewards):
        losses["reward_length_correlation"] = pearson(rewards, lengths).value
    return add_stats([one[0] for one in everyone]), losses


def _apart(
    looks: Looks,
    trainee: Trainee,
    only: Sequence[Sample],
    plan: Plan,
    known: tuple[Wanted, Mapping[str, float], Mapping[str, float]],
) -> tuple[int, float]:
    """Runs a part of a step's only micro-batch for probes that compare parts; how many samples, and their share.

    ``known``: what is wanted of a pass, the step's counts and numbers. The gradients of the part stand where the
    step's will be: whoever calls takes them away again.
    """
    count = looks.part_of(len(only)) if world()[1] == 1 else 0
    if not count:
        return 0, 0.0
    wanted, counts, numbers = known

    def backward() -> LossOut:
        streams = compute_streams(trainee, pack_one(only[:count], str(trainee.device)), wanted, plan.reference, numbers)
        out = plan.objective(streams)
        _backward(out, counts, {})
        return out

    portion = share_of(run_apart(backward, trainee.device), counts)
    looks.after_part(count, portion)
    return count, portion


def _differences(values_S: Tensor) -> list[float]:
    """Of each pair, both ways round: their mean is 0 whichever answer is the chosen one."""
    difference_P = values_S[0::2] - values_S[1::2]
    return [*difference_P.tolist(), *(-difference_P).tolist()]


def _counts(objective: Objective, samples: Sequence[Sample], budget: int, device: str) -> dict[str, float]:
    """What each term is divided by: its count over the whole step, of samples with and without a pass."""
    own: list[dict[str, float]] = []
    for batch in pack(samples, budget, device) if samples else ():
        own.append({term.name: term.count for term in objective(fixed_streams(batch)).terms})
    return _sums(counts for one in gathered(own) for counts in one)


def _step_numbers(
    trainee: Trainee, batches: Sequence[Batch], plan: Plan, wanted: Wanted, carried: Mapping[str, float]
) -> tuple[dict[str, float], Streams | None]:
    """The numbers of the step, and the streams of the first batch where they serve for its loss as well."""
    objective, numbers = plan.objective, dict(carried)
    if not isinstance(objective, UsesStepStatistics):
        return numbers, None
    # One batch alone has its pass with gradients now; several would all have to be kept, so they run again.
    single = len(batches) == 1
    counted, streams = [], None
    with torch.set_grad_enabled(single):
        for batch in batches:
            streams = compute_streams(trainee, batch, wanted, plan.reference, numbers)
            counted.append(objective.step_statistics(streams))
    values = add_stats([one for part in gathered([add_stats(counted)]) for one in part])
    numbers.update({name: stat.value for name, stat in values.items() if stat.value is not None})
    return numbers, dataclasses.replace(streams, step=numbers) if single and streams is not None else None


def _backward(out: LossOut, counts: Mapping[str, float], totals: dict[str, float]) -> None:
    shares = []
    for term in out.terms:
        if counts[term.name]:
            part = term.weight * term.total / counts[term.name]
            shares.append(part)
            totals[term.name] = totals.get(term.name, 0.0) + float(part.detach())
    if shares and (loss := torch.stack(shares).sum()).requires_grad:
        loss.backward()


def _sums(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums
