"""Model FLOPs utilisation: what share of a machine's floating-point operations a step's model needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from trimpot.models.decoder import decoder_layers, first_trained_layer

SIDE, TRIALS = 1024, 5
"""A product of two matrices of this side is timed so often, and the best time counts."""


def step_flops(model: Any, documents: Sequence[int]) -> float:
    """Operations of one forward and backward pass over packed documents of these lengths in tokens.

    Equation: Σ over documents of s tokens: 6·N·s + 6·L·heads·(d_qk + d_v)·s². N: weights of matrices, the output head
        among them (once, also where it is the embedding), the input embedding not; L: layers.
        A frozen matrix counts 4 in place of 6, as it gets no gradient of its own.
    Edge cases: layers below the first that trains count nothing (trimpot keeps their states). The formula has the head
        at every token, whereas trimpot runs it at targets alone: with prompts that do not train, too high by up to the
        head's share. Recomputation does not count. Attention counts in full, though half of it is masked.
    Source: torchtitan, ``get_nparams_and_flops`` (its 6 for matrices and 6·L·heads·(d_qk + d_v)·s a token for
        attention), which follows PaLM's appendix B (arXiv 2204.02311); frozen weights are ours.

    Example: N = 1000, L = 2, 4 heads of 8 + 8, one document of 10 tokens:
        6·1000·10 + 6·2·4·16·10² = 60,000 + 76,800 = 136,800.
    """
    config, layers = model.config, decoder_layers(model.base_model)
    first = first_trained_layer(model) or 0
    below = {id(value) for layer in layers[:first] for value in layer.parameters()}
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    kept = None if head is None else id(head.weight)
    per_token = 0.0
    for value in model.parameters():
        inputs_only = embedding is not None and value is embedding.weight and id(value) != kept
        if value.ndim >= 2 and not inputs_only and id(value) not in below:
            per_token += (6 if value.requires_grad else 4) * value.numel()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    pair = 6 * (len(layers) - first) * heads * 2 * width
    return float(sum(per_token * length + pair * length**2 for length in documents))


@cache
def measured_peak(device: str = "cpu", threads: int = 0) -> float:
    """Operations per second of a large float32 product of matrices: the best of a few, once per process and device.

    ``threads``: those in use, as another number is another peak. Source: ours. A stated peak of a device is higher.
    """
    first = torch.full((SIDE, SIDE), 0.5, device=device)
    second = torch.full((SIDE, SIDE), 0.25, device=device)
    best = float("inf")
    for _ in range(TRIALS):
        began = time.perf_counter()
        # A number that is read back: on a GPU the product has then ended.
        float((first @ second)[0, 0])
        best = min(best, time.perf_counter() - began)
    return 2 * SIDE**3 / best
