"""pass@k and pass^k: counted over all sets of k samples."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.statistics.intervals import mean_interval
from trimpot.statistics.pass_rates import pass_rate, pass_rate_of_items


@given(st.integers(1, 8), st.data())
def test_it_is_the_share_of_sets_of_k_samples(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    sets = [sum(one) for one in itertools.combinations([1] * c + [0] * (n - c), k)]
    assert pass_rate_of_items([n], [c], k)[0] == pytest.approx(np.mean([one > 0 for one in sets]), abs=1e-9)
    assert pass_rate_of_items([n], [c], k, "all")[0] == pytest.approx(np.mean([one == k for one in sets]), abs=1e-9)


def test_examples_of_the_docstrings():
    assert pass_rate_of_items([4], [2], 2)[0] == pytest.approx(5 / 6)
    assert pass_rate_of_items([4], [2], 2, "all")[0] == pytest.approx(1 / 6)
    assert pass_rate([2, 2, 2], [1, 2, 2], 1).value == pytest.approx(5 / 6)


def test_the_interval_is_over_items_not_over_samples():
    found, items = pass_rate([10] * 4, [0, 10, 0, 10], 1), mean_interval([0, 1, 0, 1])
    assert found.n == 4
    assert (found.low, found.high) == (0.0, 1.0)
    assert items.low < 0
    assert items.high > 1
    wide = pass_rate([2] * 40, [1, 2] * 20, 1, clusters=[i // 10 for i in range(40)])
    assert wide.n == 4
    assert "CR2" in wide.method


def test_items_that_are_all_alike_have_an_interval_with_a_width():
    found = pass_rate([4] * 30, [4] * 30, 2)
    assert found.value == 1.0
    assert found.low < 0.97
    assert found.high == 1.0


def test_edges():
    assert pass_rate([], [], 1).value is None
    assert pass_rate([3], [1], 1).low is None
    for bad in (([3], [1, 2], 1), ([3], [1], 4), ([3], [4], 1), ([3], [-1], 1), ([3], [1], 0)):
        with pytest.raises(ValueError):
            pass_rate_of_items(*bad)
