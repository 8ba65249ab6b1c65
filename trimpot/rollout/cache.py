"""The key/value cache of generation: prompts that start together, and the rows that grow from them in step.

Shape suffixes: P prompts, S most rows of a prompt, R rows (completions under way), A query heads, G key/value heads,
B = A / G query heads on one of them, T packed tokens, L longest prompt, D head size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from trimpot.core.tensors import Document
from trimpot.models.attention import plan_of


class DecodeCache:
    """Preallocated keys and values of a wave: every prompt's once, read by all its rows, and every row's own.

    All prompts of a wave are prefilled in one forward pass, and each pass after that gives every row one token. So the
    rows have equally many tokens of their own: these are written and read as one slice, without a mask.
    """

    def __init__(
        self,
        prompt_lengths: Sequence[int],
        rows_per_prompt: Sequence[int],
        new_tokens: int,
        device: torch.device,
        window: int | None = None,
    ) -> None:
        self.prompt_lengths, self.rows_per_prompt = list(prompt_lengths), list(rows_per_prompt)
        self.new_tokens, self.window = new_tokens, window
        self.prompt_keys: list[Tensor] = []
        self.prompt_values: list[Tensor] = []
        self.own_keys: list[Tensor] = []
        self.own_values: list[Tensor] = []
        self.bias: Tensor | None = None
        self.own: int | None = None
        """Tokens of its own that every row has in the cache; None: the prompts are still to be prefilled."""
        self.lengths_P = torch.tensor(self.prompt_lengths, device=device)
        stops = list(itertools.accumulate(self.prompt_lengths, initial=0))
        prompts = [Document(start, stop, ()) for start, stop in itertools.pairwise(stops)]
        self.prefill = plan_of(prompts, device, window)
        self.prompt_of_row = [prompt for prompt, rows in enumerate(self.rows_per_prompt) for _ in range(rows)]
        self._lay_rows()

    def positions(self) -> list[int]:
        """The positions of the tokens that the next forward pass gives this wave."""
        if self.own is None:
            return [place for length in self.prompt_lengths for place in range(length)]
        return [self.prompt_lengths[prompt] + self.own for prompt in self.prompt_of_row]

    def advance(self) -> None:
        """After a forward pass."""
        self.own = 0 if self.own is None else self.own + 1
        if self.window is not None:
            self.bias = None

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Evicts all rows but these (ascending) and the prompts that no row is left of.

        Returns the rows in their new order: the last ones move into the places that become free.
        """
        order = _filled_up(rows)
        for own in (self.own_keys, self.own_values):
            _move(own, order)
        prompt_of_row = [self.prompt_of_row[row] for row in order]
        prompts = _filled_up(sorted(set(prompt_of_row)))
        for shared in (self.prompt_keys, self.prompt_values):
            _move(shared, prompts)
        self.prompt_lengths = [self.prompt_lengths[prompt] for prompt in prompts]
        self.lengths_P = torch.tensor(self.prompt_lengths, device=self.lengths_P.device)
        self.prompt_of_row = [prompts.index(prompt) for prompt in prompt_of_row]
        self._lay_rows()
        return order

    def _lay_rows(self) -> None:
        """Gives each row a place among the S of its prompt; places of rows that left read the queries of another."""
        numbers: list[list[int]] = [[] for _ in self.prompt_lengths]
        for row, prompt in enumerate(self.prompt_of_row):
            numbers[prompt].append(row)
        self.samples = max(len(rows) for rows in numbers)
        device = self.lengths_P.device
        self.row_at = torch.tensor([row for rows in numbers for row in rows + rows[:1] * (self.samples - len(rows))])
        self.row_at = self.row_at.to(device)
        place = {row: prompt * self.samples + n for prompt, rows in enumerate(numbers) for n, row in enumerate(rows)}
        self.place_R = torch.tensor([place[row] for row in range(len(place))], device=device)
        self.bias = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See AttentionPlan; the tokens are those of ``positions``."""
        if self.own is None:
            return self._prefill(layer, query, key, value, scaling)
        return self._decode(layer, self.own, query, key, value, scaling)

    def _prefill(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        assert layer == len(self.prompt_keys)
        longest = max(self.prompt_lengths)
        for shared, own, new in (
            (self.prompt_keys, self.own_keys, key), (self.prompt_values, self.own_values, value)
        ):  # fmt: skip
            _, groups, _, size = new.shape
            # Zeros, as a masked NaN left in memory would still poison the product.
            shared.append(new.new_zeros(len(self.prompt_lengths), groups, longest, size))
            own.append(new.new_empty(len(self.prompt_of_row), groups, self.new_tokens, size))
        spans = (packed.split(self.prompt_lengths, dim=2) for packed in (key, value))
        for prompt, (k, v) in enumerate(zip(*spans, strict=True)):
            self.prompt_keys[layer][prompt, :, : k.shape[2]] = k[0]
            self.prompt_values[layer][prompt, :, : v.shape[2]] = v[0]
        return self.prefill.attend(layer, query, key, value, scaling)

    def _decode(self, layer: int, own: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        rows, groups, size = len(self.place_R), key.shape[1], query.shape[3]
        keys, values = self.own_keys[layer][:rows], self.own_values[layer][:rows]
        keys[:, :, own] = key[0].transpose(0, 1)
        values[:, :, own] = value[0].transpose(0, 1)
        first = 0 if self.window is None else max(0, own + 1 - self.window)
        seen = slice(first, own + 1)
        query_RAD = query[0].transpose(0, 1)
        # Query heads that share a key/value head are the "query length" of one call, so nothing is repeated.
        query_RGBD = query_RAD.reshape(rows, groups, -1, size)
        output, lse = attention_with_normaliser(query_RGBD, keys[:, :, seen], values[:, :, seen], None, scaling)
        if self.window is None or own + 1 < self.window:
            shared, shared_lse = self._on_prompts(layer, query_RAD, groups, scaling)
            # Both are softmax averages, over the prompt and over the row's own tokens: weighted by their normalisers
            # they are the average over all.
            share = (shared_lse - lse.flatten(1)).sigmoid()[..., None]
            output = output.flatten(1, 2).lerp(shared, share.to(shared.dtype))
        return output.reshape(rows, -1, output.shape[-1]).transpose(0, 1)[None]

    def _on_prompts(self, layer: int, query_RAD: Tensor, groups: int, scaling: float | None) -> tuple[Tensor, Tensor]:
        """Attention on the prompts, their keys read once for all rows: [R, A, D] and its normalisers [R, A]."""
        prompts, samples = len(self.prompt_lengths), self.samples
        size = query_RAD.shape[2]
        laid = query_RAD[self.row_at].view(prompts, samples, groups, -1, size)
        queries = laid.transpose(1, 2).reshape(prompts, groups, -1, size)
        longest = max(self.prompt_lengths)
        keys, values = (shared[layer][:prompts, :, :longest] for shared in (self.prompt_keys, self.prompt_values))
        output, lse = attention_with_normaliser(queries, keys, values, self._prompt_bias(queries), scaling)
        output = output.view(prompts, groups, samples, -1, output.shape[-1]).transpose(1, 2).flatten(0, 1)
        lse = lse.view(prompts, groups, samples, -1).transpose(1, 2).flatten(0, 1)
        return output.flatten(1, 2)[self.place_R], lse.flatten(1)[self.place_R]

    def _prompt_bias(self, query: Tensor) -> Tensor | None:
        """0 at the keys of a prompt that its rows see, −∞ at others [P, 1, 1, L]; None where all are seen."""
        longest = max(self.prompt_lengths)
        if self.window is None and min(self.prompt_lengths) == longest:
            return None
        if self.bias is None:
            position_L = torch.arange(longest, device=query.device)
            seen_PL = position_L[None] < self.lengths_P[:, None]
            if self.window is not None:
                assert self.own is not None
                seen_PL &= position_L[None] > self.lengths_P[:, None] + self.own - self.window
            bias_PL = torch.zeros(seen_PL.shape, dtype=query.dtype, device=query.device)
            self.bias = bias_PL.masked_fill_(~seen_PL, -torch.inf)[:, None, None]
        return self.bias


class Waves:
    """The attention plan of waves that go through one forward pass, one after the other in the packed tokens."""

    def __init__(self, caches: Sequence[DecodeCache], tokens: Sequence[int]) -> None:
        self.caches, self.tokens = caches, list(tokens)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See AttentionPlan."""
        if len(self.caches) == 1:
            return self.caches[0].attend(layer, query, key, value, scaling)
        spans = (packed.split(self.tokens, dim=2) for packed in (query, key, value))
        outputs = [
            cache.attend(layer, q, k, v, scaling).transpose(1, 2)
            for cache, q, k, v in zip(self.caches, *spans, strict=True)
        ]
        return torch.cat(outputs, dim=1).transpose(1, 2)


def attention_with_normaliser(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ · scaling + bias) v, and the log of the softmax's normaliser in float32 or more.

    Shapes: query [N, G, Q, D], key and value [N, G, L, D], bias [N, 1, 1, L] -> [N, G, Q, D], [N, G, Q].
    """
    if query.is_cpu:
        # What scaled_dot_product_attention calls on CPU; it does not return the normaliser.
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, lse = kernel(query, key, value, attn_mask=bias, scale=scaling)
        return output, lse
    return written_out(query, key, value, bias, scaling)


def written_out(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """``attention_with_normaliser`` in plain operations, for other devices."""
    scores = (query @ key.transpose(2, 3)).to(torch.promote_types(query.dtype, torch.float32))
    scores = scores * (query.shape[3] ** -0.5 if scaling is None else scaling)
    scores = scores if bias is None else scores + bias
    return scores.softmax(-1).to(value.dtype) @ value, scores.logsumexp(-1)


def _filled_up(kept: Sequence[int]) -> list[int]:
    """Kept places (ascending) in the order in which they fill 0 … n − 1, each that can stay where it is."""
    count, stay = len(kept), set(kept)
    movers = iter([place for place in kept if place >= count])
    return [place if place in stay else next(movers) for place in range(count)]


def _move(tensors: Sequence[Tensor], order: Sequence[int]) -> None:
    """Puts the entry ``order[i]`` in place i of every tensor, where it is not there already."""
    moves = [(place, source) for place, source in enumerate(order) if place != source]
    if moves:
        places, sources = (torch.tensor(side) for side in zip(*moves, strict=True))
        for tensor in tensors:
            tensor[places] = tensor[sources]
