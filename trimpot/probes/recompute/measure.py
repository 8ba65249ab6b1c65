"""What each way to recompute costs a model: bytes kept, peak, operations, seconds, and whether gradients are equal."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trimpot.core.progress import Progress, ignore
from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import stream
from trimpot.core.tensors import Batch, pack_one
from trimpot.models.decoder import decoder_layers, replaced_forwards
from trimpot.models.policy import Policy
from trimpot.models.recompute import recomputed
from trimpot.models.trunk import Trunk
from trimpot.probes.recompute.check import GradientCheck, check_gradients
from trimpot.probes.recompute.formulas import best_segment, segmented_bytes
from trimpot.probes.recompute.memory import LiveBytes, SavedBytes

KERNELS = ("default", "math")


@dataclass(frozen=True)
class RecomputeSettings:
    """The pass that is measured: ``sequences`` rows of ``tokens`` random tokens. ``every``: layers of a segment; None:
    where the formula is least, and 2 at least. ``kernel``: of attention; math keeps the matrix of scores, as the
    published formulas have it. ``repeats``: of the timing, of which the median counts.
    """

    tokens: int = 256
    sequences: int = 2
    every: int | None = None
    kernel: str = "default"
    repeats: int = 3
    seed: int = 0

    def attention(self) -> AbstractContextManager[None]:
        return sdpa_kernel(SDPBackend.MATH) if self.kernel == "math" else nullcontext()


@dataclass(frozen=True)
class ModeCost:
    """One way to recompute.

    ``kept``: bytes that the decoder's layers save in the forward pass. ``formula``: what they should be by
    ``segmented_bytes``, less the segment that is alive in the backward pass; None for selective. ``peak``: bytes alive
    at most in forward and backward, head and temporary ones included, weights and their gradients not.
    ``formula_saving``: by the formula, how much lower the peak should be than without. ``operations``: of matrix
    products in forward and backward. ``seconds``: of both.
    """

    mode: str
    every: int
    kept: int
    formula: float | None
    peak: int
    formula_saving: float | None
    operations: int
    seconds: float
    gradients: GradientCheck

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RecomputeReport:
    """All ways, ``none`` first. ``layer``: bytes a layer keeps by itself, measured; ``border``: of its input.

    ``least``: the segment for which the formula is least.
    """

    settings: RecomputeSettings
    layers: int
    hidden: int
    layer: float
    border: float
    least: int
    modes: tuple[ModeCost, ...]

    def mode(self, name: str) -> ModeCost:
        return next(one for one in self.modes if one.mode == name)

    @property
    def hidden_states_kept(self) -> float:
        """What a layer keeps in units of its input: 34 bytes of 2 are 17 in the paper's layer without attention."""
        return self.layer / self.border

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "hidden_states_kept": self.hidden_states_kept}


@dataclass(frozen=True)
class Pass:
    """A forward and backward pass that is measured one way after the other.

    ``layers``: what is computed again; ``again``: how (``recomputed``, perhaps with its random state kept).
    """

    loss: Callable[[], Tensor]
    parameters: Mapping[str, Tensor]
    layers: Sequence[nn.Module]
    settings: RecomputeSettings
    again: Callable[..., dict[nn.Module, Callable[..., Any]]] = recomputed

    def forwards(self, mode: str, every: int = 1) -> dict[nn.Module, Callable[..., Any]]:
        """The layers' forwards in this mode."""
        return self.again(self.layers, mode, every)

    def saved(self, mode: str, every: int) -> int:
        """Bytes that the layers save in the forward pass."""
        counter = SavedBytes(self.parameters.values(), self.layers)
        with replaced_forwards(self.forwards(mode, every)), counter.counting():
            self.loss()
        return counter.total

    def peak(self, mode: str, every: int) -> int:
        """Bytes alive at most, the parameters and their gradients not counted."""
        for value in self.parameters.values():
            value.grad = torch.zeros_like(value)
        with replaced_forwards(self.forwards(mode, every)), LiveBytes() as live:
            self.loss().backward()
        return live.peak

    def operations(self, mode: str, every: int) -> int:
        """Floating-point operations of matrix products, forward and backward."""
        # Kernels of attention on a CPU count as nothing: only the one of single operations is counted.
        counter = FlopCounterMode(display=False)
        with replaced_forwards(self.forwards(mode, every)), sdpa_kernel(SDPBackend.MATH), counter:
            self.loss().backward()
        return int(counter.get_total_flops())

    def seconds(self, mode: str, every: int) -> float:
        """The median of the repeats."""
        took = []
        with replaced_forwards(self.forwards(mode, every)):
            for _ in range(self.settings.repeats):
                began = time.perf_counter()
                self.loss().backward()
                took.append(time.perf_counter() - began)
        return statistics.median(took)


def measure_recompute(
    policy: Policy, settings: RecomputeSettings | None = None, progress: Progress = ignore
) -> RecomputeReport:
    """Measures none, full, every k and selective recomputation on one pass over random tokens.

    What trains in ``policy`` decides what is kept. Weights and gradients are left as they were; a trunk's own
    recomputation is off meanwhile.
    Units: bytes, seconds, floating-point operations (2 for a product and its sum).
    Raises: ValueError: an unknown kernel; nothing trains.
    Edge cases: ``kept`` is exact. ``peak`` does not see what a kernel uses inside itself. Where the head's logits are
        the peak, no recomputation of layers lowers it. Attention by torch's own kernels already computes its softmax
        again, so that selective saves next to nothing but with ``kernel: math``.
    Source: arXiv 1604.06174, arXiv 2205.05198.
    """
    settings = settings or RecomputeSettings()
    if settings.kernel not in KERNELS:
        raise ValueError(f"kernel {settings.kernel!r} is not one of {', '.join(KERNELS)}")
    parameters, trunk = policy.trainable(), policy.trunk
    if not parameters:
        raise ValueError("nothing trains")
    batch = random_batch(policy, settings)
    layers = decoder_layers(policy.model.base_model)
    work = Pass(lambda: -policy.scores(batch).logprob_N.mean(), parameters, layers, settings)
    before = {name: value.grad for name, value in parameters.items()}
    policy.trunk = Trunk()
    try:
        with settings.attention():
            return _measured(work, policy, batch, progress)
    finally:
        policy.trunk = trunk
        for name, value in parameters.items():
            value.grad = before[name]


def random_batch(policy: Policy, settings: RecomputeSettings) -> Batch:
    """Rows of random tokens, all but the first of each a target; with virtual tokens where sequences open with them."""
    source, size = stream(settings.seed, "recompute"), int(policy.model.get_input_embeddings().num_embeddings)
    size = min(size, len(policy.tokenizer))
    rows = []
    for number in range(settings.sequences):
        ids = tuple(source.randrange(size) for _ in range(settings.tokens))
        branch = Branch(ids, (False, *[True] * (settings.tokens - 1)))
        rows.append(Sample(str(number), policy.virtual_ids, (branch,)))
    return pack_one(rows, str(policy.device))


def _measured(work: Pass, policy: Policy, batch: Batch, progress: Progress) -> RecomputeReport:
    work.loss().backward()
    count, hidden = len(work.layers), int(policy.model.config.hidden_size)
    layer = work.saved("none", 1) / count
    border = float(len(batch.ids_T) * hidden * next(iter(work.layers[0].parameters())).element_size())
    least = best_segment(count, layer, border)
    every = min(count, work.settings.every or max(2, least))
    modes = (("none", 1), ("full", 1), ("every", every), ("selective", 1))
    costs = []
    for done, (name, segment) in enumerate(modes, start=1):
        checked = check_gradients(work.loss, work.parameters, work.forwards(name, segment), work.settings.seed)
        saved, peak = work.saved(name, segment), work.peak(name, segment)
        operations, seconds = work.operations(name, segment), work.seconds(name, segment)
        formula, saving = _formula(name, segment, count, layer, border)
        costs.append(ModeCost(name, segment, saved, formula, peak, saving, operations, seconds, checked))
        progress(done, len(modes))
    return RecomputeReport(work.settings, count, hidden, layer, border, least, tuple(costs))


def _formula(mode: str, every: int, layers: int, layer: float, border: float) -> tuple[float | None, float | None]:
    """Bytes kept after the forward pass, and how much lower the peak is than without recomputation."""
    if mode == "selective":
        return None, None
    if mode == "none":
        return layers * layer, 0.0
    most = segmented_bytes(layers, every, layer, border)
    return most - min(every, layers) * layer, max(0.0, layers * layer - most)
