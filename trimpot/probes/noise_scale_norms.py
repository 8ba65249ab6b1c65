"""Every example's gradient of the weights of normalisation layers, from one packed backward pass.

Shape suffixes: T packed tokens, D documents, H width of a norm, P all weights of norms.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trimpot.core.tensors import Batch


def norm_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The normalisation layers whose weights train, by name: modules with a class name that ends in Norm."""
    return {
        name: module
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Norm")
        and isinstance(weight := getattr(module, "weight", None), Tensor)
        and weight.ndim == 1
        and weight.requires_grad
    }


class NormGradients:
    """Records, while it is ``recording``, the gradient of norm weights for every document of the packed batches.

    Equation: the layer is y = w ⊙ x̂ (+ b); document d gives ∂L/∂w = Σ_{t in d} ∂L/∂y_t ⊙ x̂_t (and Σ ∂L/∂y_t for b),
        with x̂ = x/√(mean x² + ε) (root-mean-square norms, also where the weight is stored as w − 1) or
        x̂ = (x − mean)/√(var + ε) (layer norm).
    Shapes: ``rows_P``: one [P] for each document of the batches run, in their order; the sum over documents is the
        gradient that the backward pass leaves.
    Edge cases: layers that no gradient reaches give zeros. Layers that are computed again in the backward pass
        (``recompute``) would be counted twice: not with this.
    Source: arXiv 2411.00999, algorithm 2 (per-example norms within the backward pass of a norm layer).
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = norm_layers(model)
        self.rows_P: list[Tensor] = []
        self._found: dict[str, Tensor] = {}
        self._document_T: Tensor | None = None
        self._documents = 0

    @contextmanager
    def recording(self) -> Iterator[NormGradients]:
        """Hooks the layers as long as it lasts."""
        hooks = [
            layer.register_forward_hook(functools.partial(self._forward, name)) for name, layer in self._layers.items()
        ]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def begin(self, batch: Batch) -> None:
        """Before the forward pass of a batch."""
        lengths = torch.tensor([one.stop - one.start for one in batch.documents], device=batch.ids_T.device)
        self._documents = len(lengths)
        self._document_T = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
        self._found = {}

    def end(self) -> None:
        """After its backward pass."""
        parts = [self._found.get(name, self._nothing(layer)) for name, layer in self._layers.items()]
        self.rows_P += list(torch.cat(parts, dim=1).unbind())

    def _nothing(self, layer: nn.Module) -> Tensor:
        width = layer.weight.numel() * (1 + (getattr(layer, "bias", None) is not None))  # type: ignore[operator]
        return torch.zeros(self._documents, width)

    def _forward(self, name: str, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(functools.partial(self._backward, name, layer, inputs[0].detach()))

    def _backward(self, name: str, layer: Any, x: Tensor, gradient: Tensor) -> None:
        assert self._document_T is not None
        width = layer.weight.numel()
        normed = _normalised(layer, x.float())
        parts = [gradient.float() * normed]
        if getattr(layer, "bias", None) is not None:
            parts.append(gradient.float())
        # Norms of heads (queries, keys) have one more dimension, over which the weight is shared.
        tokens = [part.reshape(len(self._document_T), -1, width).sum(1) for part in parts]
        whole_TH = torch.cat(tokens, dim=1)
        summed = whole_TH.new_zeros(self._documents, whole_TH.shape[1]).index_add_(0, self._document_T, whole_TH)
        self._found[name] = summed.cpu()


def _normalised(layer: Any, x: Tensor) -> Tensor:
    if isinstance(layer, nn.LayerNorm):
        return nn.functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    epsilon = getattr(layer, "variance_epsilon", getattr(layer, "eps", None))
    epsilon = torch.finfo(x.dtype).eps if epsilon is None else float(epsilon)
    return x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt()
