"""The transformer layer that the published formulas are about, in plain torch operations.

Shape suffixes: B sequences, S tokens, H hidden, A heads, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CoreAttention(nn.Module):
    """Scores, softmax, dropout and the product with the values, step by step: what selective recomputation drops."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, query_BASD: Tensor, key_BASD: Tensor, value_BASD: Tensor) -> Tensor:
        size = query_BASD.shape[-1]
        scores_BASS = (query_BASD * size**-0.5) @ key_BASD.transpose(-1, -2)
        return self.dropout(scores_BASS.softmax(-1)) @ value_BASD


class Block(nn.Module):
    """Pre-norm attention and a feed-forward of 4h with GELU, dropout after softmax and after both, no causal mask.

    Source: arXiv 2205.05198, figure 2. A mask would save nothing more, as it takes no gradient.
    """

    def __init__(self, hidden: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.output = nn.Linear(hidden, hidden)
        self.attention = CoreAttention(dropout)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_BSH: Tensor) -> Tensor:
        normed_BSH = self.norm_attention(hidden_BSH)
        query, key, value = (self._split(layer(normed_BSH)) for layer in (self.query, self.key, self.value))
        attended_BSH = self.attention(query, key, value).transpose(1, 2).flatten(2)
        hidden_BSH = hidden_BSH + self.dropout(self.output(attended_BSH))
        inner = nn.functional.gelu(self.up(self.norm_feed(hidden_BSH)))
        output: Tensor = hidden_BSH + self.dropout(self.down(inner))
        return output

    def _split(self, states_BSH: Tensor) -> Tensor:
        # Contiguous per head, as a batched matrix product wants it: else it would save copies of its own.
        return states_BSH.unflatten(-1, (self.heads, -1)).transpose(1, 2).contiguous()


class Stack(nn.Module):
    """Blocks one after the other on given hidden states; the weights are drawn from ``seed``."""

    def __init__(self, blocks: int, hidden: int, heads: int, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(blocks))

    def forward(self, hidden_BSH: Tensor) -> Tensor:
        for block in self.blocks:
            hidden_BSH = block(hidden_BSH)
        return hidden_BSH
