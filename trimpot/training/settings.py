"""Settings of the loop and the optimiser."""

from __future__ import annotations

from dataclasses import dataclass

from trimpot.core.settings import setting
from trimpot.probes.table import check_probes


@dataclass(frozen=True)
class LoopSettings:
    """Length of the run, size of a step, checkpoints."""

    steps: int = setting(60, "optimiser steps", at_least=1)
    batch: int = setting(8, "rows (pairs, prompts) of a step", "TRL's per_device_train_batch_size", at_least=1)
    micro_batch_tokens: int = setting(
        640, "tokens of one forward and backward pass", "ours: nearly the fastest on two cores, in little memory",
        at_least=1,
    )  # fmt: skip
    recompute: bool = setting(
        False, "drop each layer's activations and compute them again in the backward pass: less memory, more time",
        "ours; TRL: gradient_checkpointing is on",
    )  # fmt: skip
    max_length: int = setting(1024, "longest row in tokens; longer ones are cut", "TRL's SFTConfig", at_least=2)
    checkpoint_every: int = setting(20, "steps between checkpoints; 0: none", at_least=0)
    keep_checkpoints: int = setting(
        2, "newest checkpoints kept while the stage runs; a finished one keeps its model only", at_least=1
    )
    probes: tuple[str, ...] = setting((), "probes that look at steps and change nothing: noise_scale, health")
    probe_every: int | None = setting(None, "steps between two looks; default: each probe's own interval", at_least=1)

    def __post_init__(self) -> None:
        check_probes(self.probes)


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with warm-up and a schedule."""

    learning_rate: float = setting(2e-5, "peak learning rate", "TRL's SFTConfig", above=0)
    schedule: str = setting(
        "linear",
        "after warm-up: to 0 linearly, by cosine, or constant",
        "TRL",
        choices=("linear", "cosine", "constant"),
    )
    warmup: float = setting(0.1, "share of the steps spent warming up", "ours", at_least=0, at_most=1)
    weight_decay: float = setting(0.0, "decoupled weight decay of matrices", "TRL", at_least=0)
    beta1: float = setting(0.9, "decay of the gradient's mean", "arXiv 1412.6980", at_least=0, at_most=1)
    beta2: float = setting(0.999, "decay of the squared gradient's mean", "arXiv 1412.6980", at_least=0, at_most=1)
    max_grad_norm: float = setting(1.0, "gradients of a larger norm are scaled down to it", "TRL", above=0)
