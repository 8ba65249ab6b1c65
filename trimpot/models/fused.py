"""Layers of Llama-like models in fewer passes over memory, with their gradients in closed form.

transformers writes these layers as chains of small operations, each of which reads and writes all activations and keeps
some of them. Here each is one function that keeps no more than its inputs and a number a token.

Shape suffixes: T packed tokens, H hidden, I intermediate, A heads, D head size.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

FAMILIES = ("Llama", "Mistral", "Qwen2")
"""Model families of transformers whose layers are the ones written here, by the start of their class names."""


def fuse(model: Any) -> None:
    """Replaces, on this model object alone, the forward of every layer that is known; others stay as they are.

    Weights, names and what is exported do not change. Idempotent.
    """
    for module in model.modules():
        forward = FORWARDS.get(type(module).__name__)
        if forward is not None and "forward" not in vars(module):
            module.forward = types.MethodType(forward, module)


class _RootMeanSquareNorm(torch.autograd.Function):
    """y = x · r · w, r = 1/√(mean(x²) + ε)."""

    @staticmethod
    def forward(ctx: Any, x_TH: Tensor, weight_H: Tensor, epsilon: float) -> Tensor:
        square_T1 = torch.linalg.vecdot(x_TH, x_TH)[..., None] / x_TH.shape[-1]
        scale_T1 = (square_T1 + epsilon).rsqrt_()
        ctx.save_for_backward(x_TH, weight_H, scale_T1)
        return (x_TH * scale_T1).mul_(weight_H)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_TH, weight_H, scale_T1 = ctx.saved_tensors
        gradient_TH = gradients[0]
        product_TH = gradient_TH * x_TH
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            # dx = r·(g·w) − x·r³·mean(g·w·x)
            inner_T1 = (product_TH @ weight_H)[..., None] / -x_TH.shape[-1]
            grad_x = (gradient_TH * weight_H).mul_(scale_T1).addcmul_(x_TH, inner_T1.mul_(scale_T1.pow(3)))
        if ctx.needs_input_grad[1]:
            grad_weight = product_TH.flatten(0, -2).T @ scale_T1.flatten()
        return grad_x, grad_weight, None


class _GatedUnit(torch.autograd.Function):
    """y = silu(gate) · up (arXiv 2002.05202, SwiGLU)."""

    @staticmethod
    def forward(ctx: Any, gate_TI: Tensor, up_TI: Tensor) -> Tensor:
        ctx.save_for_backward(gate_TI, up_TI)
        return silu(gate_TI).mul_(up_TI)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate_TI, up_TI = ctx.saved_tensors
        gradient_TI = gradients[0]
        grad_gate = torch.ops.aten.silu_backward(gradient_TI * up_TI, gate_TI)
        return grad_gate, silu(gate_TI).mul_(gradient_TI)


class _Rotation(torch.autograd.Function):
    """Rotary positions (arXiv 2104.09864, eq. 34, halves as Llama pairs them); the gradient is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x_TAD: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _rotate(x_TAD, cosine, sine)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _rotate(gradients[0], cosine, -sine), None, None


def _rotate(x_TAD: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    output = torch.empty_like(x_TAD, memory_format=torch.contiguous_format)
    first, second = x_TAD.chunk(2, dim=-1)
    for half, part, other, sign in zip(output.chunk(2, dim=-1), (first, second), (second, first), (-1, 1), strict=True):
        torch.mul(part, cosine, out=half).addcmul_(other, sine, value=sign)
    return output


def _norm_forward(self: Any, hidden_states: Tensor) -> Tensor:
    if hidden_states.dtype != torch.float32 or self.weight.dtype != torch.float32:
        return type(self).forward(self, hidden_states)
    output: Tensor = _RootMeanSquareNorm.apply(hidden_states, self.weight, self.variance_epsilon)
    return output


def _mlp_forward(self: Any, x: Tensor) -> Tensor:
    if self.config.hidden_act != "silu":
        return type(self).forward(self, x)
    output: Tensor = self.down_proj(_GatedUnit.apply(self.gate_proj(x), self.up_proj(x)))
    return output


def _attention_forward(
    self: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None,
    attention_plan: Any = None,
    **others: Any,
) -> tuple[Tensor, None]:
    if attention_plan is None:
        # A plain transformers call: `model.set_attn_implementation('sdpa')` keeps working.
        return type(self).forward(self, hidden_states, position_embeddings, attention_mask, **others)
    shape = (*hidden_states.shape[:-1], -1, self.head_dim)
    query, key, value = (layer(hidden_states).view(shape) for layer in (self.q_proj, self.k_proj, self.v_proj))
    cosine, sine = (part[..., None, : self.head_dim // 2] for part in position_embeddings)
    rotated = (_Rotation.apply(part, cosine, sine).transpose(1, 2) for part in (query, key))
    output = attention_plan.attend(self.layer_idx, *rotated, value.transpose(1, 2), self.scaling)
    return self.o_proj(output.transpose(1, 2).reshape(*shape[:2], -1)), None


FORWARDS = {
    f"{family}{part}": forward
    for family in FAMILIES
    for part, forward in (("RMSNorm", _norm_forward), ("MLP", _mlp_forward), ("Attention", _attention_forward))
}
