"""Noise on the input embeddings while training (NEFTune).

Shape suffixes: T packed tokens, L tokens of a document, H hidden.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimpot.core.seeds import seed_for
from trimpot.core.settings import setting
from trimpot.core.tensors import Batch, Wanted
from trimpot.models.policy import Policy


@dataclass(frozen=True)
class NoiseSettings:
    """Noise on the input embeddings."""

    neftune_alpha: float = setting(
        0.0, "size of the noise on the input embeddings (NEFTune); 0: none, the paper tries 5, 10, 15",
        "TRL neftune_noise_alpha None; arXiv 2310.05914 table 1", at_least=0.0,
    )  # fmt: skip


@dataclass
class NoisyPolicy:
    """A policy whose input embeddings carry noise in training passes, and in no other.

    Equation: e' = e + α / √(L·H) · u, u uniform in [−1, 1) for every token and coordinate.
        e is a token's input embedding, L the tokens of its document (a row with all its branches), H the hidden size.
    The noise of a row is a function of ``seed``, the step and the row's id, so neither packing nor a resumed run
    changes it.

    Edge cases: a row twice in one step has the same noise twice. Learned virtual tokens get none, but count in L. A
        model that scales its embeddings after the lookup (Gemma) scales the noise too, as in transformers' NEFTune.
    Source: arXiv 2310.05914, algorithm 1.
    """

    policy: Policy
    alpha: float
    seed: int

    @property
    def device(self) -> torch.device:
        return self.policy.device

    def trainable(self) -> dict[str, Tensor]:
        """The policy's parameters that train, by name."""
        return self.policy.trainable()

    def streams(self, batch: Batch, wanted: Wanted) -> dict[str, Tensor]:
        """The policy's streams under this step's noise."""

        def add_noise(module: Any, inputs: Any, output: Tensor) -> Tensor:
            noise_TH = self.noise(batch, wanted.step, output.shape[-1])
            return output + noise_TH.to(output.device, output.dtype).view_as(output)

        hook = self.policy.model.get_input_embeddings().register_forward_hook(add_noise)
        try:
            return self.policy.streams(batch, wanted)
        finally:
            hook.remove()

    def noise(self, batch: Batch, step: int, hidden: int) -> Tensor:
        """What is added to the embeddings of a packed batch: [T, H], float32, on the CPU."""
        parts = []
        for row_id, document in zip(batch.row_ids, batch.documents, strict=True):
            length = document.stop - document.start
            generator = torch.Generator().manual_seed(seed_for(self.seed, "neftune", step, row_id))
            uniform_LH = 2 * torch.rand(length, hidden, generator=generator) - 1
            parts.append(self.alpha / math.sqrt(length * hidden) * uniform_LH)
        return torch.cat(parts)

    def models(self) -> dict[str, Policy]:
        """What a training stage writes, by folder."""
        return self.policy.models()
