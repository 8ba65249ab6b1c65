"""Magnitudes, scales and lost updates of tensors that are worked out by hand."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.probes.precision import departure, loss_scale, magnitudes, modes
from trimpot.probes.precision.departure import Departure, seed_band
from trimpot.probes.precision.loss_scale import LossScale, trace
from trimpot.probes.precision.magnitudes import add_magnitudes, group_of, lost_updates, scale_window
from trimpot.probes.precision.modes import FORMATS, MODES, modes_of


@pytest.mark.parametrize("module", [departure, loss_scale, magnitudes, modes])
def test_the_examples_of_docstrings_run(module):
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


@pytest.mark.parametrize("name", FORMATS)
def test_the_formats_are_torchs(name):
    one, info = FORMATS[name], torch.finfo(getattr(torch, name))
    assert (2.0 ** (1 - one.digits), 2.0**one.normal, one.largest) == (info.eps, info.tiny, info.max)
    assert 2.0**one.subnormal == info.smallest_normal * info.eps


def test_a_known_share_is_flushed():
    # Four of ten are not 0 in float32 and 0 in float16: 2^-26, 2^-30, and 2^-25 (a tie, to the even 0) twice.
    # 1.5 · 2^-25 lies between 0 and 2^-24, nearer to the latter: kept, though below 2^-24.
    values = [
        0.0,
        2.0**-26,
        -(2.0**-30),
        2.0**-25,
        -(2.0**-25),
        1.5 * 2.0**-25,
        2.0**-24,
        2.0**-15,
        2.0**-14,
        1.0,
        -3.0,
    ]
    found = magnitudes.magnitudes("a", torch.tensor(values))
    assert (found.count, found.zeros, found.nonzero, found.flushed) == (11, 1, 10, 4)
    assert found.flushed_share == 0.4
    assert found.below(-24) == 0.5
    assert found.subnormal_share == 0.2
    assert found.largest == 3.0
    assert found.bins == {-30: 1, -26: 1, -25: 3, -24: 1, -15: 1, -14: 1, 0: 1, 1: 1}


def test_what_is_not_finite_is_counted_apart_and_no_entry_gives_no_share():
    found = magnitudes.magnitudes("a", torch.tensor([math.inf, math.nan, 2.0]))
    assert (found.not_finite, found.nonzero, found.largest) == (2, 1, 2.0)
    nothing = magnitudes.magnitudes("a", torch.zeros(3))
    assert (nothing.flushed_share, nothing.below(-24), nothing.subnormal_share) == (None, None, None)
    assert magnitudes.magnitudes("a", torch.tensor([math.nan])).largest is None
    assert scale_window([nothing]) is None


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_bins_hold_every_entry_where_its_logarithm_says(values):
    found = magnitudes.magnitudes("a", torch.tensor(values, dtype=torch.float32))
    expected: dict[int, int] = {}
    for value in values:
        if value:
            order = math.frexp(abs(value))[1] - 1
            expected[order] = expected.get(order, 0) + 1
    assert found.bins == expected
    assert found.flushed == sum(value != 0 and abs(value) <= 2.0**-25 for value in values)


def test_parts_add_to_the_whole_group_by_group():
    values = torch.tensor([1.0, 2.0**-30, 0.0, 5.0, 2.0**-15])
    parts = [
        magnitudes.magnitudes("a", values[:2]),
        magnitudes.magnitudes("b", values),
        magnitudes.magnitudes("a", values[2:]),
    ]
    found = add_magnitudes(parts)
    assert list(found) == ["a", "b"]
    assert found["a"] == magnitudes.magnitudes("a", values)


def test_a_scale_that_lifts_the_small_must_not_overflow_the_large():
    small, large = (
        magnitudes.magnitudes("a", torch.full((9,), 2.0**-40)),
        magnitudes.magnitudes("b", torch.tensor([16.0])),
    )
    # 2^-40 needs 2^16; 65,504 / 16 = 4,094 allows 2^11.
    found = scale_window([small, large])
    assert (found.least, found.most) == (16, 11)
    # Of a thousand entries one may vanish.
    mixed = magnitudes.magnitudes("a", torch.tensor([2.0**-40, *[2.0**-24] * 999]))
    assert scale_window([mixed]).least == 0
    assert scale_window([mixed], allowed=0.0).least == 16


def test_an_update_vanishes_at_a_part_in_2048_of_a_half_precision_weight_and_in_256_of_a_bfloat16_one():
    for dtype, digits in (("float16", 11), ("bfloat16", 8)):
        unit = 2.0**-digits
        # To 1: half a step up is a tie, to the even 1; a little more moves. Down, numbers lie twice as dense: it moves.
        weights = torch.ones(4)
        found = lost_updates(weights, torch.tensor([unit, 1.01 * unit, -unit, 0.0]), dtype)
        assert (found.updates, found.lost, found.small) == (3, 1, 0)
        # From the odd neighbour 1 + 2 · unit the same tie goes up to the even 1 + 4 · unit: not lost.
        assert lost_updates(weights * (1 + 2 * unit), torch.full((4,), unit), dtype).lost == 0
        # Near 2 a step is as large, half as much of the weight: an update of 0.6 units of it moves, one of 0.4 is lost.
        near = torch.full((2,), 2 - 2 * unit)
        found = lost_updates(near, near * unit * torch.tensor([0.6, 0.4]), dtype)
        assert (found.lost, found.small) == (1, 2)


def test_lost_updates_are_those_that_torchs_own_addition_loses():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(10_000, generator=generator).half()
    updates = (torch.randn(10_000, generator=generator) * 2.0**-11).half()
    same = ((weights + updates) == weights) & (updates != 0)
    found = lost_updates(weights.float(), updates.float(), "float16")
    assert 0 < found.lost == int(same.sum()) < found.updates


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.layers.0.self_attn.q_proj.weight", "attention"),
        ("model.layers.0.self_attn.q_norm.weight", "norm"),
        ("model.layers.0.mlp.down_proj.weight", "feed-forward"),
        ("transformer.h.0.ln_1.bias", "norm"),
        ("transformer.wte.weight", "embedding"),
        ("lm_head.weight", "head"),
        ("model.layers.0.self_attn.q_proj.lora_A.default.weight", "adapters"),
        ("weight", "other"),
    ],
)
def test_a_parameter_has_a_group_by_its_name(name, group):
    assert group_of(name) == group


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_the_dynamic_scale_is_torchs(interval):
    """torch.amp.GradScaler on a parameter whose gradient is not finite where the list says so."""
    overflows = [True, False, False, False, True, True, *[False] * 9, True, False]
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler = torch.amp.GradScaler("cpu", growth_interval=interval)
    scales = [scaler.get_scale()]
    for overflow in overflows:
        weight.grad = torch.tensor([math.inf if overflow else 1.0])
        scaler.scale(torch.ones(1))
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    assert [one.scale for one in trace(overflows, LossScale(interval=interval))] == scales
    assert len(set(scales)) > 2


def test_the_defaults_are_torchs_and_the_scale_does_not_leave_float32():
    scaler = torch.amp.GradScaler("cpu")
    own = LossScale()
    assert (own.scale, own.growth, own.backoff, own.interval) == (
        scaler.get_scale(),
        scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval(),
    )  # fmt: skip
    assert LossScale(2.0**127, interval=1).after(False).scale == 2.0**127
    fixed = LossScale.static(8.0)
    assert [one.scale for one in trace([True, False, True], fixed)] == [8.0] * 4


def test_a_curve_departs_where_it_stays_outside_and_at_once_where_it_is_not_finite():
    band = [(0.0, 1.0)] * 6
    assert departure.departure([2, 2, 0.5, 2, 2, 0.5], band) is None
    assert departure.departure([0.5, 2, 2, 2, 0.5, 0.5], band) == Departure(2, "above")
    assert departure.departure([0.5, 0.5, 0.5, -1, -1, -1], band) == Departure(4, "below")
    assert departure.departure([0.5, 0.5, 0.5, 0.5, -1, -1], band) is None
    assert departure.departure([0.5, math.nan, 0.5, 0.5, 0.5, 0.5], band) == Departure(2, "not finite")


def test_one_more_normal_curve_lies_in_the_band_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4, 4000, generator=generator, dtype=torch.float64).tolist()
    new = torch.randn(4000, generator=generator).tolist()
    inside = sum(low <= value <= high for value, (low, high) in zip(new, seed_band(draws), strict=True))
    # 95% of 4,000, and three standard errors of √(0.95 · 0.05 / 4,000) = 0.0034 around it.
    assert inside / 4000 == pytest.approx(0.95, abs=0.0104)
    for wrong in ([[1.0]], [[1.0], [1.0, 2.0]], [[1.0], [math.nan]]):
        with pytest.raises(ValueError, match="band"):
            seed_band(wrong)


def test_modes_are_chosen_by_name_with_fp32_first():
    assert [one.name for one in modes_of(["bf16", "fp32"])] == ["fp32", "bf16"]
    assert len(modes_of([])) == len(MODES) == 9
    with pytest.raises(UsageError, match="Did you mean 'fp16-dynamic'"):
        modes_of(["fp16-dinamic"])
    with pytest.raises(UsageError, match="twice"):
        modes_of(["bf16", "bf16"])
