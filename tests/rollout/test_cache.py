"""The cache against plain attention over every row's whole sequence, as rows and prompts leave it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from trimpot.rollout.cache import DecodeCache, Waves, attention_with_normaliser, written_out

HEADS, GROUPS, SIZE = 4, 2, 8
CPU = torch.device("cpu")


def packed(tokens: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of packed tokens, as a layer gives them."""
    every = torch.randn(1, tokens, HEADS + 2 * GROUPS, SIZE, generator=generator, dtype=torch.float64).transpose(1, 2)
    query, key, value = every.split((HEADS, GROUPS, GROUPS), dim=1)
    return query, key, value


def attention(query_AD: Tensor, keys: list[Tensor], values: list[Tensor], window: int | None) -> Tensor:
    """The newest query on all keys so far (or the window's), written out."""
    keys, values = (some[-window:] if window else some for some in (keys, values))
    k, v = (torch.stack(some, dim=1).repeat_interleave(HEADS // GROUPS, dim=0) for some in (keys, values))
    return ((query_AD[:, None] @ k.transpose(1, 2) * SIZE**-0.5).softmax(-1) @ v)[:, 0]


class Written:
    """A wave whose every row is kept as plain lists of keys and values."""

    def __init__(self, lengths: list[int], rows: list[int], steps: int, window: int | None, seed: int) -> None:
        self.cache = DecodeCache(lengths, rows, steps, CPU, window)
        self.lengths, self.counts, self.window = lengths, rows, window
        self.generator = torch.Generator().manual_seed(seed)
        self.keys: list[list[Tensor]] = []
        self.values: list[list[Tensor]] = []

    def tokens(self) -> int:
        return len(self.cache.positions())

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return packed(self.tokens(), self.generator)

    def check(self, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
        """Compares a pass's output with plain attention, and takes its keys and values in."""
        if not self.keys:
            self._check_prefill(query, key, value, output)
            return
        for row, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            keys.append(key[0, :, row])
            values.append(value[0, :, row])
            expected = attention(query[0, :, row], keys, values, self.window)
            assert torch.allclose(output[0, :, row], expected, atol=1e-12)

    def _check_prefill(self, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
        start = 0
        for length, count in zip(self.lengths, self.counts, strict=True):
            keys: list[Tensor] = []
            values: list[Tensor] = []
            for place in range(start, start + length):
                keys.append(key[0, :, place])
                values.append(value[0, :, place])
                expected = attention(query[0, :, place], keys, values, self.window)
                assert torch.allclose(output[0, :, place], expected, atol=1e-12)
            self.keys += [list(keys) for _ in range(count)]
            self.values += [list(values) for _ in range(count)]
            start += length

    def keep(self, rows: list[int]) -> None:
        order = self.cache.keep(rows)
        assert sorted(order) == rows
        self.keys, self.values = [self.keys[row] for row in order], [self.values[row] for row in order]


@pytest.mark.parametrize("window", [None, 1, 3, 6, 100])
@pytest.mark.parametrize(
    ("lengths", "rows"), [([5], [1]), ([3, 9, 1], [1, 1, 1]), ([4, 4], [3, 3]), ([7, 2, 5], [4, 1, 2]), ([2], [6])]
)
def test_every_pass_is_plain_attention(lengths: list[int], rows: list[int], window: int | None) -> None:
    steps, chance = 9, random.Random(1)
    wave = Written(lengths, rows, steps, window, seed=0)
    for step in range(steps + 1):
        query, key, value = wave.inputs()
        output = wave.cache.attend(0, query, key, value, None)
        wave.check(query, key, value, output)
        wave.cache.advance()
        count = len(wave.keys)
        if step in (2, 4, 5) and count > 1:
            wave.keep(sorted(chance.sample(range(count), count - chance.randint(1, max(1, count // 2)))))


def test_waves_of_different_age_share_a_pass() -> None:
    waves = [Written([4, 6], [2, 2], 8, None, seed=0)]
    for step in range(6):
        if step in (2, 3):
            waves.append(Written([3 + step, 1], [1, 3], 8, None, seed=step))
        if step == 4:
            waves[0].keep([1, 3])
        parts = [wave.inputs() for wave in waves]
        plan = Waves([wave.cache for wave in waves], [wave.tokens() for wave in waves])
        query, key, value = (torch.cat(some, dim=2) for some in zip(*parts, strict=True))
        outputs = plan.attend(0, query, key, value, None).split([wave.tokens() for wave in waves], dim=2)
        for wave, part, output in zip(waves, parts, outputs, strict=True):
            wave.check(*part, output)
            wave.cache.advance()


def test_positions_follow_the_prompts() -> None:
    cache = DecodeCache([3, 1], [2, 1], 4, CPU)
    assert cache.positions() == [0, 1, 2, 0]
    cache.attend(0, *packed(4, torch.Generator()), None)
    cache.advance()
    assert cache.positions() == [3, 3, 1]
    assert cache.keep([0, 2]) == [0, 2]
    cache.advance()
    assert cache.positions() == [4, 2]


def test_the_last_rows_fill_the_free_places() -> None:
    cache = DecodeCache([2] * 6, [1] * 6, 4, CPU)
    cache.attend(0, *packed(12, torch.Generator()), None)
    cache.advance()
    assert cache.keep([1, 4, 5]) == [4, 1, 5]
    assert len(cache.prompt_lengths) == 3


@pytest.mark.parametrize("form", [attention_with_normaliser, written_out])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_with_its_normaliser(form: Callable[..., Any], scaling: float | None, biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, 2, n, SIZE, generator=generator, dtype=torch.float64) for n in (4, 7, 7))
    bias = torch.zeros(3, 1, 1, 7, dtype=torch.float64)
    if biased:
        bias[1, ..., 5:] = -torch.inf
    output, lse = form(query, key, value, bias if biased else None, scaling)
    scores = query @ key.transpose(2, 3) * (scaling or SIZE**-0.5) + bias
    assert torch.allclose(lse, scores.logsumexp(-1), atol=1e-12)
    assert torch.allclose(output, scores.softmax(-1) @ value, atol=1e-12)
