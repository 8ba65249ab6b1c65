"""The key/value cache of generation: an attention plan that fills rows from prompts and then grows them by a token.

Shape suffixes: R rows (completions under way), A query heads, G key/value heads, T packed tokens, L cache length,
D head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trimpot.models.attention import repeat_heads


class DecodeCache:
    """Preallocated keys and values of every row; a prompt is prefilled once for all of its rows.

    ``prompt_lengths`` and ``rows_per_prompt`` are per prompt; ``limit`` is the longest prompt plus new tokens.
    """

    def __init__(
        self,
        prompt_lengths: Sequence[int],
        rows_per_prompt: Sequence[int],
        limit: int,
        device: torch.device,
        window: int | None = None,
    ) -> None:
        self.prompt_lengths, self.rows_per_prompt, self.limit = list(prompt_lengths), list(rows_per_prompt), limit
        self.window = window
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        repeats = torch.tensor(self.rows_per_prompt, device=device)
        self.lengths_R = torch.tensor(self.prompt_lengths, device=device).repeat_interleave(repeats)
        self.prefilling = True
        self.mask: Tensor | None = None
        self.longest = 0

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See AttentionPlan. While prefilling, T is all prompts packed; after that one token per row."""
        if self.prefilling:
            return self._prefill(layer, query, key, value, scaling)
        return self._decode(layer, query, key, value, scaling)

    def _prefill(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        if layer == len(self.keys):
            shape = (len(self.lengths_R), key.shape[1], self.limit, key.shape[3])
            # Zeros, as a masked NaN left in memory would still poison the product.
            self.keys.append(key.new_zeros(shape))
            self.values.append(value.new_zeros(shape))
        outputs, start, row = [], 0, 0
        for length, rows in zip(self.prompt_lengths, self.rows_per_prompt, strict=True):
            span = slice(start, start + length)
            self.keys[layer][row : row + rows, :, :length] = key[0, :, span]
            self.values[layer][row : row + rows, :, :length] = value[0, :, span]
            k, v = (repeat_heads(packed[:, :, span], query.shape[1]) for packed in (key, value))
            mask = self._window_mask(length, key.device)
            outputs.append(
                scaled_dot_product_attention(
                    query[:, :, span], k, v, attn_mask=mask, is_causal=mask is None, scale=scaling
                )
            )
            start, row = start + length, row + rows
        return torch.cat(outputs, dim=2)

    def _window_mask(self, length: int, device: torch.device) -> Tensor | None:
        if self.window is None or length <= self.window:
            return None
        position = torch.arange(length, device=device)
        distance = position[:, None] - position[None]
        return (distance >= 0) & (distance < self.window)

    def begin_step(self) -> None:
        """Makes room for one more token in every row; call before each decoding forward."""
        self.prefilling = False
        self.longest = int(self.lengths_R.max()) + 1
        position_L = torch.arange(self.longest, device=self.lengths_R.device)
        seen_RL = position_L[None] <= self.lengths_R[:, None]
        if self.window is not None:
            seen_RL &= position_L[None] > self.lengths_R[:, None] - self.window
        self.mask = seen_RL[:, None, None]

    def end_step(self) -> None:
        self.lengths_R += 1

    def _decode(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        rows = torch.arange(len(self.lengths_R), device=query.device)
        self.keys[layer][rows, :, self.lengths_R] = key[0].transpose(0, 1)
        self.values[layer][rows, :, self.lengths_R] = value[0].transpose(0, 1)
        k, v = self.keys[layer][:, :, : self.longest], self.values[layer][:, :, : self.longest]
        heads, groups = query.shape[1], key.shape[1]
        # Query heads that share a key/value head are the "query length" of one call, so nothing is repeated.
        q = query[0].transpose(0, 1).reshape(len(rows), groups, heads // groups, query.shape[3])
        output = scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=scaling)
        return output.reshape(len(rows), heads, query.shape[3]).transpose(0, 1)[None]

    def keep(self, rows: Tensor) -> None:
        """Evicts all rows but these (indices, ascending)."""
        self.lengths_R = self.lengths_R[rows]
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
