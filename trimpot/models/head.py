"""Log-probs, entropy and correctness of the targets, without keeping a [tokens, vocabulary] tensor of logits.

Shape suffixes: N targets, H hidden, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Targets whose logits exist at one time: 50 MB at 49,152 words in fp32."""
KEEP_BYTES = 512 * 2**20
"""Probabilities are kept for the backward pass up to this size; beyond it they are computed again."""


class _TargetScores(torch.autograd.Function):
    """log p(target) with its gradient in closed form: dlogits = g · (onehot(target) − p)."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, target_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = len(target_N)
        keep = any(ctx.needs_input_grad) and rows * weight_VH.shape[0] * 4 <= KEEP_BYTES
        precision = torch.promote_types(hidden_NH.dtype, torch.float32)
        logprob, entropy = hidden_NH.new_empty((2, rows), dtype=precision).unbind()
        correct = torch.empty(rows, dtype=torch.bool, device=hidden_NH.device)
        kept = []
        for low in range(0, rows, CHUNK):
            part = slice(low, low + CHUNK)
            target_C1 = target_N[part, None]
            shifted_CV, best_C1 = _below_best(hidden_NH[part], weight_VH, bias_V)
            exps_CV = shifted_CV.exp()
            sum_C = exps_CV.sum(1)
            logprob[part] = shifted_CV.gather(1, target_C1)[:, 0] - sum_C.log()
            correct[part] = (best_C1 == target_C1)[:, 0]
            # A word of probability 0 adds 0 to the entropy: 0 · (−∞) would make it NaN.
            entropy[part] = sum_C.log() - torch.linalg.vecdot(exps_CV, shifted_CV.clamp_min_(-1e4)) / sum_C
            if keep:
                kept.append((exps_CV, sum_C))
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V, target_N)
        # Not saved with the others: the backward pass overwrites them, and a second one computes them again.
        ctx.kept = kept
        ctx.mark_non_differentiable(entropy, correct)
        return logprob, entropy, correct

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor, *_: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        hidden_NH, weight_VH, bias_V, target_N = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, []
        need_hidden, need_weight, need_bias, _ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden_NH) if need_hidden else None
        grad_weight = torch.zeros_like(weight_VH) if need_weight else None
        grad_bias = torch.zeros_like(bias_V) if need_bias and bias_V is not None else None
        for number, low in enumerate(range(0, len(target_N), CHUNK)):
            part = slice(low, low + CHUNK)
            if kept:
                (exps_CV, sum_C), kept[number] = kept[number], None
            else:
                exps_CV = _below_best(hidden_NH[part], weight_VH, bias_V)[0].exp_()
                sum_C = exps_CV.sum(1)
            grad_CV = exps_CV.mul_((-grad_N[part] / sum_C)[:, None])
            grad_CV.scatter_add_(1, target_N[part, None], grad_N[part, None])
            grad_CV = grad_CV.to(hidden_NH.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad_CV @ weight_VH
            if grad_weight is not None:
                grad_weight.addmm_(grad_CV.T, hidden_NH[part])
            if grad_bias is not None:
                grad_bias += grad_CV.sum(0)
        return grad_hidden, grad_weight, grad_bias, None


def _below_best(hidden_CH: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits minus the row's largest, [C, V] in float32 at least, and where the largest is, [C, 1]."""
    logits_CV = torch.nn.functional.linear(hidden_CH, weight_VH, bias_V)
    logits_CV = logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32))
    best = logits_CV.max(1, keepdim=True)
    return logits_CV.sub_(best.values), best.indices


def target_scores(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, target_N: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores every target under softmax((hidden · weightᵀ + bias) / temperature).

    Shapes: hidden_NH [N, H], weight_VH [V, H], target_N [N] -> logprob_N, entropy_N (float32 at least, nats) and
    correct_N (bool: the target is the most likely token). Only logprob_N carries gradients.
    """
    if temperature != 1.0:
        hidden_NH = hidden_NH / temperature
        bias_V = None if bias_V is None else bias_V / temperature
    logprob_N, entropy_N, correct_N = _TargetScores.apply(hidden_NH, weight_VH, bias_V, target_N)
    return logprob_N, entropy_N, correct_N
