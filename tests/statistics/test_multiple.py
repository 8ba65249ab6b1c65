"""Holm's correction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.statistics.multiple import holm

P_VALUES = st.lists(st.floats(0, 1), max_size=20)


def test_example_of_the_docstring():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(P_VALUES)
def test_adjusted_values_keep_the_order_and_never_fall_below(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    ranked = [adjusted[i] for i in sorted(range(len(p_values)), key=p_values.__getitem__)]
    assert ranked == sorted(ranked)


@given(P_VALUES, st.floats(0.001, 0.999))
def test_rejects_what_holms_stepwise_procedure_rejects(p_values, alpha):
    order, rejected, left = sorted(range(len(p_values)), key=p_values.__getitem__), set(), len(p_values)
    for index in order:
        if left * p_values[index] > alpha:
            break
        rejected.add(index)
        left -= 1
    assert {index for index, value in enumerate(holm(p_values)) if value <= alpha} == rejected


def test_refuses_what_is_no_p_value():
    for bad in (float("nan"), 1.5, -0.1):
        with pytest.raises(ValueError):
            holm([0.1, bad])
