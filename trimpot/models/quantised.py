"""QLoRA's base: the decoder's linear layers in 4 bits (NormalFloat), on the CPU as on CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from trimpot.core.errors import UsageError

MARK = "is_loaded_in_4bit"
"""The attribute by which peft, too, recognises such a model."""


def is_quantised(model: Any) -> bool:
    """Whether ``quantise`` has changed this model."""
    return bool(getattr(model, MARK, False))


def quantise(model: Any) -> None:
    """Replaces the trunk's linear layers by 4-bit ones, in place; embeddings, norms and output head stay as they are.

    w ≈ c · q[k]: k is one of 16 levels, the quantiles of a normal distribution; c the largest |w| of a block of 64
    weights, itself stored in 8 bits (double quantisation). Layers compute in the type of the weights they replace.
    Units: about 4.13 bits per weight. The model is loaded whole first, so the peak is that of the full model.

    Raises:
        UsageError: bitsandbytes is not installed, or the trunk has no torch.nn.Linear (GPT-2 has another kind).
    Source: QLoRA (arXiv 2305.14314, section 3).
    """
    library, layers = _bitsandbytes(), _quantisable(model)
    for parent, name, layer in layers:
        setattr(parent, name, _four_bits(library, layer))
    setattr(model, MARK, True)


def refuse_quantising(model: Any) -> None:
    """Raises UsageError where ``quantise`` would, and leaves the model as it is."""
    _bitsandbytes()
    _quantisable(model)


def _quantisable(model: Any) -> list[tuple[torch.nn.Module, str, Any]]:
    layers = list(_layers(model.base_model, torch.nn.Linear))
    if not layers:
        problem = f"{model.config.model_type}: has no torch.nn.Linear layers to put into 4 bits"
        raise UsageError("quantise", problem, "Use quantise: none.")
    return layers


def dequantise(model: Any) -> None:
    """Puts plain linear layers with the 4-bit weights' values back, in place."""
    library = _bitsandbytes()
    for parent, name, layer in list(_layers(model.base_model, library.nn.Linear4bit)):
        setattr(parent, name, _plain(library, layer))
    delattr(model, MARK)


def _layers(trunk: torch.nn.Module, kind: type) -> Iterator[tuple[torch.nn.Module, str, Any]]:
    """Every layer of exactly this kind, with its parent and its name there."""
    for parent in trunk.modules():
        for name, layer in parent.named_children():
            if type(layer) is kind:
                yield parent, name, layer


def _four_bits(library: ModuleType, layer: torch.nn.Linear) -> Any:
    weight = layer.weight.detach()
    packed = library.nn.Linear4bit(
        layer.in_features, layer.out_features, layer.bias is not None, weight.dtype, quant_type="nf4", device="meta"
    )
    packed.weight = library.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", module=packed).to(
        weight.device
    )
    packed.bias = layer.bias
    # Else a CPU with AVX512-BF16 repacks the weights at the first pass without gradients and from then on computes in
    # bfloat16, by a kernel through which no gradient flows.
    packed.support_avx512bf16_for_cpu = False
    return packed.requires_grad_(False)


def _plain(library: ModuleType, packed: Any) -> torch.nn.Linear:
    weight = library.functional.dequantize_4bit(packed.weight.data, packed.weight.quant_state)
    layer = torch.nn.Linear(packed.in_features, packed.out_features, packed.bias is not None, device="meta")
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    layer.bias = packed.bias
    return layer


def _bitsandbytes() -> ModuleType:
    try:
        import bitsandbytes
    except ImportError as error:
        problem = "4-bit weights need the package bitsandbytes"
        raise UsageError("quantise", problem, "pip install bitsandbytes, or use quantise: none.") from error
    module: ModuleType = bitsandbytes
    return module
