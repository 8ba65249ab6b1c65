"""The packed batch, the streams an objective reads and the loss it returns. The one torch module of core.

Shape suffixes: T packed tokens, N targets, S sequences (branches), H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from trimpot.core.samples import Sample
from trimpot.core.stats import Stat


@dataclass(frozen=True)
class Document:
    """A span of a packed batch that attends to itself only: a prefix, then branches that each see prefix and self."""

    start: int
    prefix_stop: int
    branches: tuple[tuple[int, int], ...]

    @property
    def stop(self) -> int:
        return self.branches[-1][1] if self.branches else self.prefix_stop


@dataclass(frozen=True)
class Batch:
    """Packed samples; nothing is padded.

    Shapes: ids_T, positions_T [T]; predict_from_N, target_ids_N, sequence_N [N]; last_token_S [S].
    The hidden state at ``predict_from_N[n]`` predicts ``target_ids_N[n]``, a token of sequence ``sequence_N[n]``.
    Sequences are numbered in the order of the samples and their branches; ``branches_per_row`` counts them.
    ``streams`` are tensors of length N (per target) or S (per sequence).
    """

    ids_T: Tensor
    positions_T: Tensor
    documents: tuple[Document, ...]
    predict_from_N: Tensor
    target_ids_N: Tensor
    sequence_N: Tensor
    last_token_S: Tensor
    row_ids: tuple[str, ...]
    branches_per_row: tuple[int, ...]
    streams: Mapping[str, Tensor]

    @property
    def sequences(self) -> int:
        return len(self.last_token_S)


@dataclass(frozen=True)
class Streams:
    """What an objective may read. ``needs`` of the objective names the fields that must not be None.

    Shapes: names ending in _N have one entry per target token, in _S one per sequence. Log-probs in nats.
    Preference and reward objectives read sequences 2i (chosen) and 2i+1 (rejected) as pair i.
    ``step`` holds numbers of the whole step: what ``step_statistics`` counted over it, and what ``carry`` kept from the
    steps before.

    logprob_N: the policy's, with gradient. reference_logprob_N: the frozen reference's. sampler_logprob_N: as the
    completion was drawn. old_logprob_N: the policy's, computed by the trainer before the first update on this draw.
    advantage_N, return_N, old_value_N: of a rollout. value_N: the critic's, with gradient. reward_S: a reward
    model's, with gradient. reward_N: a process reward model's logit that the step is right, with gradient; label_N: 1
    right, 0 wrong. kind_S: 1 desirable, 0 undesirable, -1 a mismatched answer (for a KL baseline). divergence_N:
    from the teacher's whole distribution, with gradient. entropy_N and correct_N have no gradient. end_N: the target
    ends a turn; answer_N: it lies in an answer (1) or in what a user, system or tool wrote (0).
    """

    sequence_N: Tensor
    sequences: int
    logprob_N: Tensor | None = None
    reference_logprob_N: Tensor | None = None
    sampler_logprob_N: Tensor | None = None
    old_logprob_N: Tensor | None = None
    weight_N: Tensor | None = None
    advantage_N: Tensor | None = None
    return_N: Tensor | None = None
    value_N: Tensor | None = None
    old_value_N: Tensor | None = None
    reward_S: Tensor | None = None
    margin_S: Tensor | None = None
    kind_S: Tensor | None = None
    reward_N: Tensor | None = None
    label_N: Tensor | None = None
    divergence_N: Tensor | None = None
    entropy_N: Tensor | None = None
    correct_N: Tensor | None = None
    end_N: Tensor | None = None
    answer_N: Tensor | None = None
    step: Mapping[str, float] = field(default_factory=dict)

    def sum_by_sequence(self, values_N: Tensor) -> Tensor:
        """[N] -> [S]: the sum of each sequence's targets."""
        return values_N.new_zeros(self.sequences).index_add(0, self.sequence_N, values_N)

    def lengths_S(self) -> Tensor:
        """[S]: number of targets of each sequence."""
        return torch.bincount(self.sequence_N, minlength=self.sequences)


@dataclass(frozen=True)
class Wanted:
    """What the loop asks of a forward pass: the streams the objective needs, the sampling temperature that divides the
    logits, and the number of the step, which names the random draws of the pass.
    """

    needs: tuple[str, ...]
    temperature: float = 1.0
    step: int = 0


@dataclass(frozen=True)
class Term:
    """One summand of the loss: weight · total / count, the count summed over the whole step and all ranks."""

    name: str
    weight: float
    total: Tensor
    count: float


@dataclass(frozen=True)
class LossOut:
    """Terms of the loss and statistics of the batch. Counts never depend on the model, only on the rows."""

    terms: tuple[Term, ...]
    stats: Mapping[str, Stat]

    def loss(self) -> Tensor:
        """The loss of this batch alone (tests, one-file loops)."""
        return torch.stack([term.weight * term.total / max(term.count, 1e-12) for term in self.terms]).sum()


class Objective(Protocol):
    """An equation: settings are the fields of a frozen dataclass; calling it maps Streams to LossOut."""

    @property
    def name(self) -> str: ...

    @property
    def stage(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    def __call__(self, streams: Streams) -> LossOut: ...


@runtime_checkable
class UsesStepStatistics(Protocol):
    """An objective that reads statistics of the whole step (a KL baseline): they are counted before the loss.

    The loop calls it on every micro-batch without gradients, adds the results over the step and all processes, and
    passes their means as ``Streams.step``. A statistic without entries (count 0) is left out of ``step``.
    """

    def step_statistics(self, streams: Streams) -> Mapping[str, Stat]: ...


@runtime_checkable
class Carries(Protocol):
    """An objective with numbers that live from step to step (an adaptive coefficient): checkpoints hold them.

    ``initial`` is what the first step sees in ``Streams.step``; ``carry`` makes the next step's from this step's and
    the step's metrics (means by name, None: nothing to count).
    """

    def initial(self) -> Mapping[str, float]: ...

    def carry(self, carried: Mapping[str, float], metrics: Mapping[str, float | None]) -> Mapping[str, float]: ...


def stat(values: Tensor) -> Stat:
    """The Stat of a tensor: its sum and its number of entries."""
    return Stat(float(values.detach().double().sum()), values.numel())


def pack(samples: Sequence[Sample], token_budget: int, device: str = "cpu") -> list[Batch]:
    """Packs samples into micro-batches of at most ``token_budget`` tokens, balanced by size.

    A sample larger than the budget gets a batch of its own. Within a batch samples keep their order.
    """
    total = sum(sample.tokens for sample in samples)
    bins: list[list[int]] = [[] for _ in range(max(1, -(-total // token_budget)))]
    loads = [0] * len(bins)
    for index in sorted(range(len(samples)), key=lambda i: -samples[i].tokens):
        lightest = min(range(len(bins)), key=loads.__getitem__)
        if bins[lightest] and loads[lightest] + samples[index].tokens > token_budget:
            bins.append([])
            loads.append(0)
            lightest = len(bins) - 1
        bins[lightest].append(index)
        loads[lightest] += samples[index].tokens
    return [pack_one([samples[index] for index in sorted(group)], device) for group in bins if group]


def pack_one(samples: Sequence[Sample], device: str = "cpu") -> Batch:
    """Packs samples into one Batch (see Batch for the layout)."""
    ids: list[int] = []
    positions: list[int] = []
    documents: list[Document] = []
    predict_from: list[int] = []
    targets: list[int] = []
    sequence: list[int] = []
    last_token: list[int] = []
    streams: dict[str, list[float]] = {}
    for sample in samples:
        start, prefix_length = len(ids), len(sample.prefix)
        ids.extend(sample.prefix)
        positions.extend(range(prefix_length))
        spans = []
        for branch in sample.branches:
            branch_start = len(ids)
            ids.extend(branch.ids)
            positions.extend(range(prefix_length, prefix_length + len(branch.ids)))
            spans.append((branch_start, len(ids)))
            for offset, supervised in enumerate(branch.supervised):
                if supervised:
                    predict_from.append(branch_start + offset - 1 if offset else start + prefix_length - 1)
                    targets.append(branch.ids[offset])
                    sequence.append(len(last_token))
            last_token.append(len(ids) - 1)
            for name, value in branch.streams.items():
                streams.setdefault(name, []).extend([value] if isinstance(value, int | float) else value)
        documents.append(Document(start, start + prefix_length, tuple(spans)))

    def long(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Batch(
        long(ids), long(positions), tuple(documents), long(predict_from), long(targets), long(sequence),
        long(last_token), tuple(sample.row_id for sample in samples),
        tuple(len(sample.branches) for sample in samples),
        {name: torch.tensor(values, dtype=torch.float32, device=device) for name, values in streams.items()},
    )  # fmt: skip
