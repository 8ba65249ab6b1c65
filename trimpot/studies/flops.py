"""Floating-point operations of a piece of work, measured while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Shape = Sequence[int]


def measured_flops(work: Callable[[], object]) -> float:
    """The operations of all matrix products and attentions that ``work`` runs, forward and backward.

    A product of [m, k] by [k, n] counts 2mkn. Attention of Q queries on K keys of size D counts 4QKD a head forward and
    10QKD backward, whether keys are masked or not. Work element by element (norms, activations, the optimiser) is not
    counted.

    Source: torch.utils.flop_counter.FlopCounterMode, to which are added products in place, the CPU's attention and
        oneDNN's packed products: those of torch 2.13 count 0.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    with counter:
        work()
    return float(counter.get_total_flops())


def _formulas() -> dict[Any, Callable[..., int]]:
    aten, onednn = torch.ops.aten, torch.ops.mkldnn
    formulas: dict[Any, Callable[..., int]] = {
        aten.addmm_: _added_product,
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    if hasattr(onednn, "_linear_pointwise"):
        formulas[onednn._linear_pointwise] = _packed_product
    return formulas


def _added_product(total: Shape, first: Shape, second: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(first) * second[-1]


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


def _packed_product(inputs: Shape, weight: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * prod(inputs) * out_shape[-1]
