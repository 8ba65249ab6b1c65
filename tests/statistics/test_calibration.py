import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.statistics.calibration import (
    brier_score,
    calibration_noise,
    expected_calibration_error,
    pair_confidences,
)

CASES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def columns(cases: list[tuple[float, bool]]) -> tuple[list[float], list[float]]:
    return [p for p, _ in cases], [float(y) for _, y in cases]


def test_ece_by_hand():
    # bins (0, .5] and (.5, 1]: one value 0.1 with y 0; two values 0.9 with mean y 0.5
    value = expected_calibration_error([0.9, 0.9, 0.1], [1, 0, 0], bins=2).value
    assert value == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.1, abs=1e-15)


def test_an_edge_belongs_to_the_bin_below_and_low_to_the_first():
    # 0.5 lies in (0.4, 0.5], apart from 0.55; together they would cancel: mean p 0.525, mean y 0.5.
    assert expected_calibration_error([0.5, 0.55], [0, 1], bins=10).value == pytest.approx((0.5 + 0.45) / 2, abs=1e-15)
    # 0 and 0.05 share the first bin: |0.5 − 0.025|
    assert expected_calibration_error([0.0, 0.05], [0, 1], bins=10).value == pytest.approx(0.475, abs=1e-15)
    # With bins from 0.5 on, 0.5 and 0.54 share the first: |0.5 − 0.52|
    assert expected_calibration_error([0.5, 0.54], [0, 1], bins=10, low=0.5).value == pytest.approx(0.02, abs=1e-15)


def test_pairs_by_hand():
    confidences, correct = pair_confidences([0.9, 0.2, 0.5])
    assert confidences == pytest.approx([0.9, 0.8, 0.5], abs=1e-15)
    assert correct == [1.0, 0.0, 0.5]
    # 5 bins of width 0.1 from 0.5: 0.5 alone (gap 0); 0.8 in (0.7, 0.8]; 0.9 in (0.8, 0.9]
    value = expected_calibration_error(confidences, correct, bins=5, low=0.5).value
    assert value == pytest.approx((0.0 + 0.8 + 0.1) / 3, abs=1e-15)


@given(CASES)
def test_the_error_of_pairs_does_not_depend_on_which_answer_is_named_first(cases):
    p, _ = columns(cases)
    confidences, correct = pair_confidences(p)
    swapped, swapped_correct = pair_confidences([1 - value for value in p])
    assert swapped == pytest.approx(confidences, abs=1e-15)
    # The answer it prefers is now the other one.
    assert all(a + b == 1 for a, b, value in zip(correct, swapped_correct, p, strict=True) if abs(value - 0.5) > 1e-9)


def test_brier_by_hand():
    estimate = brier_score([0.8, 0.4], [1, 0])
    assert estimate.value == pytest.approx((0.04 + 0.16) / 2, abs=1e-15)
    assert estimate.low < estimate.value < estimate.high
    assert brier_score([0.5, 0.5], [1, 0]).value == 0.25
    assert brier_score([1.0, 0.0], [1, 0]).value == 0.0


@given(CASES, st.integers(1, 20), st.randoms(use_true_random=False))
def test_properties(cases, bins, random):
    p, y = columns(cases)
    error = expected_calibration_error(p, y, bins).value
    assert 0 <= error <= 1 + 1e-12
    # The gap of all together is the least that any bins show; that of every value alone is the most.
    assert error >= abs(np.mean(p) - np.mean(y)) - 1e-12
    assert error <= np.mean(np.abs(np.array(p) - np.array(y))) + 1e-12
    shuffled = cases.copy()
    random.shuffle(shuffled)
    assert expected_calibration_error(*columns(shuffled), bins).value == pytest.approx(error, abs=1e-12)
    assert expected_calibration_error(*columns(cases * 3), bins).value == pytest.approx(error, abs=1e-12)
    assert brier_score(p, y).value <= np.mean(np.abs(np.array(p) - np.array(y))) + 1e-12


def test_chance_alone_gives_an_error_that_shrinks_with_the_number_of_cases():
    few, many = (calibration_noise([0.7] * n, seed=0) for n in (20, 2000))
    # |mean of n Bernoulli(0.7) − 0.7| has mean √(2/π)·√(0.21/n)
    for n, value in ((20, few), (2000, many)):
        assert value == pytest.approx(np.sqrt(2 / np.pi * 0.21 / n), rel=0.1)
    assert calibration_noise([0.7] * 20, seed=0) == few
    assert calibration_noise([1.0, 0.0], seed=0) == 0.0


def test_no_cases_have_no_value():
    assert expected_calibration_error([], []).value is None
    assert calibration_noise([], seed=0) is None
    assert brier_score([], []).value is None
    assert pair_confidences([]) == ([], [])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: expected_calibration_error([0.5], [1, 0]), "equal lengths"),
        (lambda: expected_calibration_error([1.5], [1]), r"probabilities\[0\] is 1.5"),
        (lambda: expected_calibration_error([0.4], [1], low=0.5), r"in \[0.5, 1\]"),
        (lambda: expected_calibration_error([0.4], [2]), r"outcomes\[0\]"),
        (lambda: expected_calibration_error([0.4], [1], bins=0), "bins is 0"),
        (lambda: expected_calibration_error([0.4], [1], low=1.0), "low is 1.0"),
        (lambda: brier_score([float("nan")], [1]), "nan"),
        (lambda: pair_confidences([-0.1]), r"probabilities\[0\]"),
        (lambda: calibration_noise([0.5], seed=0, draws=0), "draws is 0"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
