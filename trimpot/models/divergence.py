"""A divergence between two models' whole distributions, without keeping a [tokens, vocabulary] tensor of logits.

Shape suffixes: N targets, C targets of a chunk, H hidden (each model its own), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trimpot.models.head import CHUNK

Head = tuple[Tensor, Tensor | None]
"""Weight [V, H] and bias [V] of an output embedding."""
Divergence = Callable[[Tensor, Tensor], Tensor]
"""Logits of student and teacher, each [C, V] -> [C]."""


def chunked_divergence(
    student_hidden_NH: Tensor,
    student_head: Head,
    teacher_hidden_NH: Tensor,
    teacher_head: Head,
    divergence: Divergence,
    chunk: int = CHUNK,
) -> Tensor:
    """divergence(student's logits, teacher's logits) of every target, ``chunk`` of them at a time.

    A chunk's logits are dropped after use and computed again for the backward pass. Gradients reach the student only.

    Shapes: hidden [N, H], heads [V, H] and [V] -> [N]. Logits are float32 at least.
    Edge cases: heads of different height (embeddings padded to a round number) are both cut to the lower one, so
        the divergence is between the distributions over the rows that both have. No targets: [0].
    """
    rows = min(student_head[0].shape[0], teacher_head[0].shape[0])
    weight_VH, bias_V = _cut(student_head, rows)
    teacher_weight_VH, teacher_bias_V = _cut((teacher_head[0].detach(), teacher_head[1]), rows)
    if teacher_bias_V is not None:
        teacher_bias_V = teacher_bias_V.detach()

    def part(student_CH: Tensor, teacher_CH: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
        return divergence(
            _logits(student_CH, weight_VH, bias_V), _logits(teacher_CH, teacher_weight_VH, teacher_bias_V)
        )

    parts = [
        checkpoint(part, student_CH, teacher_CH, weight_VH, bias_V, use_reentrant=False, preserve_rng_state=False)
        for student_CH, teacher_CH in zip(
            student_hidden_NH.split(chunk), teacher_hidden_NH.detach().split(chunk), strict=True
        )
    ]
    return torch.cat(parts)


def _cut(head: Head, rows: int) -> Head:
    weight_VH, bias_V = head
    return weight_VH[:rows], None if bias_V is None else bias_V[:rows]


def _logits(hidden_CH: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
    logits_CV = torch.nn.functional.linear(hidden_CH, weight_VH, bias_V)
    return logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32))
