"""The check of the loss as it is computed for a batch: the same, row by row and word by word, in a plain loop.

Shape suffixes: N targets, S sequences, H hidden, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trimpot.core.samples import Sample
from trimpot.core.seeds import stream
from trimpot.core.tensors import Batch, LossOut, Objective, Streams, pack_one
from trimpot.models.policy import Policy
from trimpot.preflight.check import Built, Check, Deadline, Found
from trimpot.preflight.parts import hidden_states, plan_of, shortest, streams_of
from trimpot.training.streams import Trainee

TOLERANCE = 1e-6


def loop_loss(built: Built, deadline: Deadline) -> Found:
    """The loss of a batch against the loss of a loop over its rows, each with its own log-probs.

    Equation: |L − Σᵣ wᵣ tᵣ / Σᵣ cᵣ| ≤ 10⁻⁶ max(1, |L|), summed over the loss's terms. L is the loss of the packed
        batch; tᵣ and cᵣ are a term's total and count of row r alone. A policy's log-probs are computed anew, target by
        target, in float64: log p(y) = z_y − log Σᵥ exp zᵥ with the logits z = W h + b of the hidden state h.
    A fixed number in [−1, 0] is added to what a model made of every target (to a reward, in [−1, 1]): a policy that
    equals its reference, and a reward head of zeros, would have a loss that no row changes.
    Edge cases: what a reward model, a noisy or a taught policy makes of a row is taken as it is; only the loss loops.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): generalize a special case.
    """
    batch = pack_one(shortest(built), _device(built))
    objective = plan_of(built).objective
    with torch.no_grad():
        streams = naive = streams_of(built, batch)
        if isinstance(built.trainee, Policy) and streams.logprob_N is not None:
            naive_N = naive_logprobs(built.trainee, batch, plan_of(built).temperature)
            naive = dataclasses.replace(streams, logprob_N=naive_N)
        whole = total_loss(objective, [shaken(streams, built.seed)])
        looped = total_loss(objective, rows_of(shaken(naive, built.seed), batch))
    difference = abs(whole - looped)
    text = f"batch {whole:.7g}, loop {looped:.7g}, difference {difference:.1e}"
    return Found(difference <= TOLERANCE * max(1.0, abs(whole)), difference, text)


def shaken(streams: Streams, seed: int) -> Streams:
    """Streams whose log-probs and rewards are off by fixed numbers (see loop_loss)."""
    draw = stream(seed, "preflight", "shaken")
    changed = {}
    for name, low in (("logprob_N", 0.0), ("reward_S", 1.0), ("reward_N", 1.0)):
        value = getattr(streams, name)
        if value is not None:
            off = torch.tensor([draw.random() * (1 + low) - 1 for _ in range(len(value))], dtype=torch.float64)
            changed[name] = value.double() + off.to(value.device)
    return dataclasses.replace(streams, **changed)


def naive_logprobs(policy: Policy, batch: Batch, temperature: float) -> Tensor:
    """[N], float64: the log-prob of every target, one at a time, from all logits."""
    hidden_TH, (weight_VH, bias_V) = hidden_states(policy, batch), policy.head()
    found = []
    for place, target in zip(batch.predict_from_N.tolist(), batch.target_ids_N.tolist(), strict=True):
        logits_V = torch.nn.functional.linear(hidden_TH[place], weight_VH, bias_V).double() / temperature
        found.append(logits_V[target] - torch.logsumexp(logits_V, 0))
    return torch.stack(found)


def total_loss(objective: Objective, parts: Sequence[Streams]) -> float:
    """The loss of a step whose parts these are: each term's totals over its counts."""
    totals: dict[str, float] = {}
    counts: dict[str, float] = {}
    for part in parts:
        out: LossOut = objective(part)
        for term in out.terms:
            totals[term.name] = totals.get(term.name, 0.0) + term.weight * float(term.total)
            counts[term.name] = counts.get(term.name, 0.0) + term.count
    return sum(total / counts[name] for name, total in totals.items() if counts[name])


def rows_of(streams: Streams, batch: Batch) -> list[Streams]:
    """The streams of every row by itself."""
    parts, first = [], 0
    for branches in batch.branches_per_row:
        here_N = (streams.sequence_N >= first) & (streams.sequence_N < first + branches)
        changed: dict[str, object] = {"sequence_N": streams.sequence_N[here_N] - first, "sequences": branches}
        for one in dataclasses.fields(Streams):
            value = getattr(streams, one.name)
            if one.name in changed or not isinstance(value, Tensor):
                continue
            changed[one.name] = value[here_N] if one.name.endswith("_N") else value[first : first + branches]
        parts.append(dataclasses.replace(streams, **changed))  # type: ignore[arg-type]
        first += branches
    return parts


@torch.no_grad()
def row_losses(built: Built, samples: Sequence[Sample], trainee: Trainee | None = None) -> list[float]:
    """The objective's loss of every row by itself, by ``trainee`` (default: the stage's)."""
    if trainee is not None:
        built = dataclasses.replace(built, trainee=trainee)
    batch = pack_one(samples, _device(built))
    return [total_loss(plan_of(built).objective, [part]) for part in rows_of(streams_of(built, batch), batch)]


@torch.no_grad()
def statistics(built: Built, samples: Sequence[Sample]) -> Mapping[str, float | None]:
    """The objective's statistics of samples as one batch."""
    out = plan_of(built).objective(streams_of(built, pack_one(samples, _device(built))))
    return {name: one.value for name, one in out.stats.items()}


def _device(built: Built) -> str:
    assert built.trainee is not None
    return str(built.trainee.device)


CHECKS = (
    Check(
        "loop_loss",
        "Is the loss of a batch that of a plain loop over its rows?",
        "difference at most 1e-6",
        30,
        "Compare terms and counts of the objective on one row: a batch drops, doubles or averages something.",
        loop_loss,
    ),
)
