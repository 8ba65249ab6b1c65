"""Attention of packed batches, document by document, registered as an attention implementation of transformers.

Any decoder that calls transformers' attention interface runs on it unchanged. Shape suffixes: B batch (always 1),
A heads, T packed tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from trimpot.core.tensors import Batch, Document

IMPLEMENTATION = "trimpot_documents"


@dataclass(frozen=True)
class Call:
    """One attention call: queries of ``query`` on keys of ``keys`` (spans of the packed batch).

    ``mask`` [query tokens, key tokens] says what is seen; None: causal, queries and keys being the same span.
    """

    query: tuple[int, int]
    keys: tuple[tuple[int, int], ...]
    mask: Tensor | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention of the call's own queries, keys and values: [1, A, Q, D], [1, A', K, D] -> [1, A, Q, D]."""
        return scaled_dot_product_attention(
            query, key, value, attn_mask=self.mask, is_causal=self.mask is None, scale=scaling, enable_gqa=True
        )


class AttentionPlan(Protocol):
    """What a forward hands to every attention layer: how its queries, keys and values meet."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """query [1, A, T, D], key and value [1, A', T, D] with A' dividing A -> [1, A, T, D]."""


@dataclass(frozen=True)
class PackedPlan:
    """The plan of a packed batch: one call per span on CPU, one variable-length kernel on CUDA half precision."""

    calls: tuple[Call, ...]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        kernel = variable_length_kernel(query)
        if kernel is not None and all(call.mask is None or len(call.keys) > 1 for call in self.calls):
            return attend_variable_length(self.calls, query, key, value, scaling, kernel)
        # Split, not sliced: the backward pass of every slice would fill a packed tensor with zeros.
        spans = [call.query for call in self.calls]
        lengths = [high - low for low, high in spans]
        queries = query.split(lengths, dim=2)
        keys, values = (dict(zip(spans, packed.split(lengths, dim=2), strict=True)) for packed in (key, value))
        outputs = [
            call.attend(q, _join(keys, call.keys), _join(values, call.keys), scaling).transpose(1, 2)
            for q, call in zip(queries, self.calls, strict=True)
        ]
        return torch.cat(outputs, dim=1).transpose(1, 2)


def plan_for(batch: Batch, window: int | None = None) -> PackedPlan:
    """The attention plan of a packed batch; ``window`` is the model's sliding window in tokens, if it has one."""
    return plan_of(batch.documents, batch.ids_T.device, window)


def plan_of(documents: Sequence[Document], device: torch.device, window: int | None) -> PackedPlan:
    """The attention plan of documents that are packed one after the other."""
    return PackedPlan(tuple(call for document in documents for call in _calls(document, device, window)))


def _calls(document: Document, device: torch.device, window: int | None) -> list[Call]:
    start, stop, prefix = document.start, document.stop, document.prefix_stop
    length = stop - start
    windowed = window is not None and length > window
    plain = len(document.branches) == 1 or not document.branches
    if plain and not windowed:
        return [Call((start, stop), ((start, stop),), None)]
    # One masked call for the whole document would also compute what branches do not see of each other.
    calls = []
    if prefix > start:
        mask = _branch_mask(0, prefix - start, device, window) if windowed else None
        calls.append(Call((start, prefix), ((start, prefix),), mask))
    for low, high in (span for span in document.branches if span[1] > span[0]):
        keys = ((start, prefix), (low, high)) if prefix > start else ((low, high),)
        mask = _branch_mask(prefix - start, high - low, device, window) if prefix > start or windowed else None
        calls.append(Call((low, high), keys, mask))
    return calls


def _branch_mask(prefix: int, length: int, device: torch.device, window: int | None) -> Tensor:
    distance = torch.arange(prefix, prefix + length, device=device)[:, None] - torch.arange(
        prefix + length, device=device
    )
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def _join(parts: Mapping[tuple[int, int], Tensor], spans: tuple[tuple[int, int], ...]) -> Tensor:
    found = [parts[span] for span in spans]
    return found[0] if len(found) == 1 else torch.cat(found, dim=2)


def variable_length_kernel(query: Tensor) -> Callable[..., Tensor] | None:
    """torch's variable-length attention where it runs (CUDA, half precision), else None."""
    if not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16):
        return None
    from torch.nn.attention.varlen import varlen_attn

    kernel: Callable[..., Any] = varlen_attn
    return kernel


def attend_variable_length(
    calls: tuple[Call, ...],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    kernel: Callable[..., Tensor],
) -> Tensor:
    """All calls in one kernel: keys are gathered per call, and the causal mask is aligned at the end of each.

    Source: FlashAttention-2's variable-length interface (bottom-right aligned causal mask), as torch exposes it.
    """
    device = query.device
    spans = [span for call in calls for span in call.keys]
    index = torch.cat([torch.arange(low, high, device=device) for low, high in spans])
    query_lengths = [call.query[1] - call.query[0] for call in calls]
    key_lengths = [sum(high - low for low, high in call.keys) for call in calls]

    def offsets(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)

    output = kernel(
        query[0].transpose(0, 1).contiguous(),
        key[0].transpose(0, 1)[index],
        value[0].transpose(0, 1)[index],
        offsets(query_lengths),
        offsets(key_lengths),
        max(query_lengths),
        max(key_lengths),
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=True,
    )
    return output.transpose(0, 1)[None]


def _forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    attention_plan: AttentionPlan | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if attention_plan is None:
        raise ValueError(
            "this model is set up for packed batches: score it through Policy, or call"
            " model.set_attn_implementation('sdpa') to use it as a plain transformers model"
        )
    if softcap is not None:
        raise ValueError("attention with a soft cap (Gemma 2) is not supported by the packed forward")
    output = attention_plan.attend(module.layer_idx, query, key, value, scaling)
    return output.transpose(1, 2).contiguous(), None


def register() -> str:
    """Registers the implementation with transformers (idempotent) and returns its name."""
    AttentionInterface.register(IMPLEMENTATION, _forward)
    return IMPLEMENTATION
