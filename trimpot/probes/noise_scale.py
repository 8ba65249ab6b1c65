"""The gradient noise scale of a model on rows, at its weights as they are: from every example's own gradient."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from trimpot.core.progress import Progress, ignore
from trimpot.core.samples import Sample
from trimpot.core.seeds import stream
from trimpot.core.tensors import Batch, Objective, Streams, Wanted, pack_one
from trimpot.models.policy import Policy
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.probes.noise_scale_advice import Advice, advise
from trimpot.probes.noise_scale_norms import NormGradients, norm_layers
from trimpot.statistics.noise_scale import FEWEST_LOOKS, NoiseScale, noise_scale_of_examples

METHODS = ("exact", "norms")
Told = Callable[[int], None]
"""Hears how many passes are done."""


@dataclass(frozen=True)
class NoiseScaleSettings:
    """What is measured: ``method`` exact (every example's whole gradient) or norms (that of its norm layers alone, for
    a fraction of the time); ``examples`` at most, drawn by ``seed``; fewer where ``minutes`` do not suffice for all.
    """

    method: str = "exact"
    examples: int = 64
    minutes: float = 4.0
    batch: int = 8
    seed: int = 0
    token_budget: int = 640


@dataclass(frozen=True)
class NoiseScaleReport:
    """B_simple in examples and in target tokens' worth, what it says of ``batch``, and what was measured.

    ``scale``: by the chosen method. ``norms``: by the norm layers, of the same examples; None where the model trains
    none. ``tokens`` and ``targets``: mean of an example. ``warning``: fewer examples were measured than asked for.
    """

    method: str
    scale: NoiseScale
    norms: NoiseScale | None
    advice: Advice
    batch: int
    examples: int
    tokens: float
    targets: float
    parameters: int
    seconds: float
    warning: str = ""

    @property
    def simple_tokens(self) -> float | None:
        """B_simple in tokens: examples times the mean length of one."""
        value = self.scale.simple.value
        return None if value is None else value * self.tokens

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "simple_tokens": self.simple_tokens}


@dataclass(frozen=True)
class _Work:
    policy: Policy
    objective: Objective
    samples: tuple[Sample, ...]
    counts: Mapping[str, float]
    """What each term of the loss is divided by: its count over all examples."""

    def backward(self, batch: Batch) -> None:
        made: dict[str, Any] = {**self.policy.streams(batch, Wanted(self.objective.needs)), **batch.streams}
        out = self.objective(Streams(batch.sequence_N, batch.sequences, **made))
        terms = [one.weight * one.total / self.counts[one.name] for one in out.terms if self.counts[one.name]]
        torch.stack(terms).sum().backward()


def measure_noise_scale(
    policy: Policy,
    samples: Sequence[Sample],
    settings: NoiseScaleSettings,
    objective: Objective | None = None,
    progress: Progress = ignore,
) -> NoiseScaleReport:
    """Measures B_simple of what trains in ``policy`` on tokenised rows; weights and random state stay as they are.

    Equation: ``noise_scale_of_examples``. Exact: one packed pass over all examples gives g, then one pass for each
        gives |uᵢ| and ⟨uᵢ, g⟩, every trained matrix included. Norms: uᵢ is the gradient of the norm layers' weights,
        which the packed pass gives for all examples at once.
    Units: examples (rows). ``objective``: one that needs log-probs of the policy alone; default: SFT.
    Memory: exact: weights, their gradient and g. Cost: exact: about three packed passes, as single rows fill the cores
        less well; norms: one.
    Raises: ValueError: fewer than FEWEST_LOOKS examples, an unknown method, or norms where no norm layer trains.
    Edge cases: see NoiseScale. The norm layers' noise scale moves with the whole one and need not equal it: where both
        are measured, the report has both.
    Source: arXiv 1812.06162, appendix A.1; arXiv 2411.00999 (norm layers).
    """
    if settings.method not in METHODS or (settings.method == "norms" and not norm_layers(policy.model)):
        raise ValueError(f"method {settings.method!r} cannot be used here")
    objective = objective or SupervisedFineTuning()
    began = time.perf_counter()
    parameters = list(policy.trainable().values())
    order = list(range(len(samples)))
    stream(settings.seed, "noise scale").shuffle(order)
    chosen = [samples[place] for place in order[: settings.examples]]
    _clear(parameters)
    try:
        afforded = _afforded(policy, objective, chosen, settings)
        work = _Work(policy, objective, tuple(chosen[:afforded]), _counts(objective, chosen[:afforded]))
        shares = [_share(objective, one, work.counts) for one in work.samples]
        passes = afforded * (2 if settings.method == "exact" else 1)
        rows_P = _packed_pass(work, settings, lambda done: progress(done, passes))
        norms = None
        if rows_P is not None:
            norms = noise_scale_of_examples(*_norms_and_inner(rows_P), shares, float(rows_P.sum(0).norm()))
        if settings.method == "exact":
            scale = _exact(work, parameters, shares, lambda done: progress(afforded + done, passes))
        else:
            assert norms is not None
            scale = norms
    finally:
        _clear(parameters)
    fewer = "" if afforded == len(chosen) else f"{afforded} of {len(chosen)} fit in {settings.minutes:g} minutes"
    return NoiseScaleReport(
        settings.method, scale, norms, advise(scale.simple, settings.batch), settings.batch, afforded,
        sum(one.tokens for one in work.samples) / afforded, sum(one.targets for one in work.samples) / afforded,
        sum(value.numel() for value in parameters), time.perf_counter() - began, fewer,
    )  # fmt: skip


def _clear(parameters: Sequence[Tensor]) -> None:
    for value in parameters:
        value.grad = None


def _counts(objective: Objective, samples: Sequence[Sample]) -> dict[str, float]:
    """The count of each term of the loss over these samples."""
    batch = pack_one(samples)
    zeros_N = torch.zeros(len(batch.target_ids_N))
    made: dict[str, Any] = {**dict.fromkeys(objective.needs, zeros_N), **batch.streams}
    return {one.name: one.count for one in objective(Streams(batch.sequence_N, batch.sequences, **made)).terms}


def _share(objective: Objective, sample: Sample, counts: Mapping[str, float]) -> float:
    """The example's share in what the loss is divided by; of several terms the mean."""
    parts = [own / counts[name] for name, own in _counts(objective, [sample]).items() if counts[name]]
    return sum(parts) / len(parts)


def _afforded(policy: Policy, objective: Objective, chosen: Sequence[Sample], settings: NoiseScaleSettings) -> int:
    """How many examples the minutes suffice for, by the time of a token in a pass over one; FEWEST_LOOKS at least.

    The first pass also touches the memory of all gradients, so it is not counted.
    """
    if len(chosen) < FEWEST_LOOKS:
        raise ValueError(f"{len(chosen)} examples: {FEWEST_LOOKS} at least are needed")
    typical = sorted(chosen, key=lambda one: one.tokens)[len(chosen) // 2]
    work = _Work(policy, objective, (typical,), _counts(objective, [typical]))
    seconds = math.inf
    for _ in range(2):
        began = time.perf_counter()
        work.backward(pack_one([typical], str(policy.device)))
        seconds = time.perf_counter() - began
    # Two passes, of which the packed one is no dearer than single rows.
    rounds = 2 if settings.method == "exact" else 1
    _clear(list(policy.trainable().values()))
    tokens = settings.minutes * 60 / (rounds * seconds) * typical.tokens
    fitting = sum(total <= tokens for total in accumulate(one.tokens for one in chosen))
    return max(FEWEST_LOOKS, fitting)


def _packed_pass(work: _Work, settings: NoiseScaleSettings, told: Told) -> Tensor | None:
    """Leaves g in the gradients; the norm layers' gradient of every example, in the order of ``samples``: [B, P]."""
    recorder = NormGradients(work.policy.model)
    with recorder.recording():
        for group in _groups(work.samples, settings.token_budget):
            batch = pack_one([work.samples[place] for place in group], str(work.policy.device))
            recorder.begin(batch)
            work.backward(batch)
            recorder.end()
            told(group[-1] + 1)
    return torch.stack(recorder.rows_P).double() if norm_layers(work.policy.model) else None


def _groups(samples: Sequence[Sample], budget: int) -> list[list[int]]:
    """Places of samples, in their order and in runs of at most ``budget`` tokens, a longer one alone."""
    groups: list[list[int]] = []
    room = 0
    for place, sample in enumerate(samples):
        if not groups or sample.tokens > room:
            groups.append([])
            room = budget
        groups[-1].append(place)
        room -= sample.tokens
    return groups


def _norms_and_inner(rows_P: Tensor) -> tuple[list[float], list[float]]:
    return rows_P.norm(dim=1).tolist(), (rows_P @ rows_P.sum(0)).tolist()


def _exact(
    work: _Work, parameters: Sequence[Tensor], shares: Sequence[float], told: Callable[[int], None]
) -> NoiseScale:
    """Every example's own pass, held against the gradient of all that lies in the parameters."""
    whole = [None if value.grad is None else value.grad.detach() for value in parameters]
    norm_whole = math.sqrt(sum(_inner(one, one) for one in whole if one is not None))
    norms, inner = [], []
    _clear(parameters)
    for done, sample in enumerate(work.samples, start=1):
        # Zeros rather than none: a gradient that is made anew touches all of its memory again.
        for value in parameters:
            if value.grad is not None:
                value.grad.zero_()
        work.backward(pack_one([sample], str(work.policy.device)))
        own = [(value.grad, one) for value, one in zip(parameters, whole, strict=True) if one is not None]
        norms.append(math.sqrt(sum(_inner(grad, grad) for grad, _ in own if grad is not None)))
        inner.append(sum(_inner(grad, one) for grad, one in own if grad is not None))
        told(done)
    return noise_scale_of_examples(norms, inner, shares, norm_whole)


def _inner(first: Tensor, second: Tensor) -> float:
    return float(torch.dot(first.flatten().float(), second.flatten().float()))
