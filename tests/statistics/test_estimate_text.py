"""An estimate as people read it."""

import pytest

from trimpot.core.stats import Estimate


@pytest.mark.parametrize(
    ("value", "low", "high", "form", "text"),
    [
        (0.25, 0.0234, 0.4471, ".3f", "0.250 [0.023, 0.447]"),
        (-0.25, -0.4, 0.1, "+.2f", "-0.25 [-0.40, +0.10]"),
        (0.123, 0.1, 0.2, ".1%", "12.3% [10.0%, 20.0%]"),
        (0.25, None, None, ".3f", "0.250"),
        (None, None, None, ".3f", "not measured"),
    ],
)
def test_a_value_stands_with_its_interval(value, low, high, form, text):
    assert Estimate(value, low, high, 9, "by hand").text(form) == text
