"""Published formulas in their own numbers, and the bytes that torch keeps of the layer they are about."""

from __future__ import annotations

import doctest

import pytest
import torch

from trimpot.models.recompute import recomputed
from trimpot.probes.recompute import formulas
from trimpot.probes.recompute.block import Stack
from trimpot.probes.recompute.formulas import LayerShape, best_segment, layer_bytes, segmented_bytes
from trimpot.probes.recompute.measure import Pass, RecomputeSettings
from trimpot.probes.recompute.memory import LiveBytes, SavedBytes


def test_the_examples_of_docstrings_run():
    assert doctest.testmod(formulas).failed == 0


@pytest.mark.parametrize(
    ("settings", "bytes_of_sbh"),
    [
        # arXiv 2205.05198, table 2, at as/h = 16 and t = 8.
        ({}, 34 + 5 * 16),
        ({"parallel": 8}, 10 + 24 / 8 + 5 * 16 / 8),
        ({"parallel": 8, "sequence_parallel": True}, 34 / 8 + 5 * 16 / 8),
        ({"parallel": 8, "recompute": "selective"}, 10 + 24 / 8),
        ({"parallel": 8, "sequence_parallel": True, "recompute": "selective"}, 34 / 8),
        ({"parallel": 8, "recompute": "full"}, 2),
    ],
)
def test_the_table_of_the_paper(settings, bytes_of_sbh):
    shape = LayerShape(tokens=2048, sequences=1, hidden=12288, heads=96)
    assert layer_bytes(shape, **settings) == pytest.approx(bytes_of_sbh * 2048 * 12288)


def test_the_formula_refuses_what_it_does_not_say():
    shape = LayerShape(8, 1, 8, 1)
    for settings in ({"recompute": "every"}, {"parallel": 0}):
        with pytest.raises(ValueError, match="no formula"):
            layer_bytes(shape, **settings)
    with pytest.raises(ValueError, match="segments of 0"):
        segmented_bytes(4, 0, 1.0, 1.0)


@pytest.mark.parametrize("layers", [1, 7, 64])
@pytest.mark.parametrize("ratio", [1, 18])
def test_the_best_segment_is_near_the_root(layers, ratio):
    best = best_segment(layers, ratio, 1.0)
    assert segmented_bytes(layers, best, ratio, 1.0) <= min(
        segmented_bytes(layers, k, ratio, 1.0) for k in (1, 2, 8, 64)
    )
    assert best == pytest.approx((layers / ratio) ** 0.5, abs=1)


def stack_pass(shape: LayerShape, blocks: int, dtype: torch.dtype = torch.float32, train: bool = True) -> Pass:
    stack = Stack(blocks, shape.hidden, shape.heads).to(dtype).train(train)
    states = torch.randn(shape.sequences, shape.tokens, shape.hidden, dtype=dtype)
    return Pass(lambda: stack(states).float().square().mean(), dict(stack.named_parameters()), stack.blocks,
                RecomputeSettings())  # fmt: skip


@pytest.mark.parametrize(("dtype", "number"), [(torch.float32, 4), (torch.bfloat16, 2)])
@pytest.mark.parametrize("shape", [LayerShape(64, 2, 64, 4), LayerShape(128, 1, 64, 8)])
@pytest.mark.parametrize("mode", ["none", "selective", "full"])
def test_a_layer_keeps_on_a_cpu_what_the_formula_says_with_masks_as_wide_as_numbers(mode, shape, dtype, number):
    """In bfloat16: sbh(36 + 6as/h). A norm's two numbers a token and the like are what the formula leaves out."""
    kept = (stack_pass(shape, 3, dtype).saved(mode, 1) - stack_pass(shape, 1, dtype).saved(mode, 1)) / 2
    assert kept == pytest.approx(layer_bytes(shape, mode, number=number, mask=number), rel=0.01)


def test_the_peak_follows_the_segments():
    shape = LayerShape(32, 2, 64, 4)
    work = stack_pass(shape, 16)
    layer, border = layer_bytes(shape, number=4, mask=4), shape.numbers * 4
    found = {every: work.peak("every", every) for every in (1, 2, 4, 16)}
    for every, peak in found.items():
        # Beside what is kept, the pass through one layer holds some tensors as wide as its feed-forward.
        assert peak - segmented_bytes(16, every, layer, border) == pytest.approx(0, abs=0.8 * layer), every
    assert min(found, key=found.get) == best_segment(16, layer, border) == 1
    assert work.peak("none", 1) == pytest.approx(16 * layer, abs=0.8 * layer)


def test_saved_bytes_are_counted_once_and_without_parameters():
    weight = torch.randn(8, 8, requires_grad=True)
    states = torch.randn(4, 8)
    counter = SavedBytes([weight])
    with counter.counting():
        # exp saves its output [4, 8]; the square saves that same tensor again; the product saves its input [4, 8].
        ((states @ weight).exp() ** 2).sum()
    assert counter.total == 2 * 4 * 8 * 4


def test_live_bytes_rise_and_fall_with_tensors():
    before = torch.ones(1000)
    with LiveBytes() as live:
        first = before * 2
        assert live.live == 4000
        second = first[:10] + 1
        assert live.live == 4040
        view = first.view(10, 100)
        del first
        assert live.live == 4040
        del view
        assert live.live == 40
        before.add_(1)
        assert live.live == 40
    assert live.peak == 4040
    assert second.numel() == 10


def test_operations_of_recomputation_are_those_of_the_products_that_run_again():
    work = stack_pass(LayerShape(32, 2, 64, 4), 4, train=False)
    plain, full, selective = (work.operations(mode, 1) for mode in ("none", "full", "selective"))
    # Of a block's products of 2 · 64 numbers a token, 12h² + 2sh = 12 · 64 + 2 · 32 = 832 (times h), the forward pass
    # is one third; without dropout computing again stops before the last product, down: 4h² = 256.
    whole = 3 * 832
    assert full / plain == pytest.approx(1 + (832 - 256) / whole)
    # Scores and their product with the values, of which the second need not run again: sh of 12h² + 2sh.
    assert selective / plain == pytest.approx(1 + 32 / whole)
    # With dropout its noise is the last thing that is kept, so all products run again.
    drops = stack_pass(LayerShape(32, 2, 64, 4), 4)
    assert drops.operations("full", 1) / plain == pytest.approx(4 / 3)


def test_recomputed_forwards_are_those_of_the_mode():
    stack = Stack(5, 16, 2)
    assert recomputed(stack.blocks, "none") == {}
    assert list(recomputed(stack.blocks)) == list(stack.blocks)
    assert list(recomputed(stack.blocks, "every", 2)) == list(stack.blocks)
    assert list(recomputed(stack.blocks, "selective")) == [block.attention for block in stack.blocks]
    for wrong in (("all", 1), ("every", 0)):
        with pytest.raises(ValueError, match="is not one of none, full, every, selective"):
            recomputed(stack.blocks, *wrong)
    with pytest.raises(ValueError, match="0 attention modules"):
        recomputed([torch.nn.Linear(2, 2)], "selective")
