"""The spread between runs of one recipe: by hand, with what must not count in it."""

import math

import pytest

from trimpot.knobs.evidence import Conditions, Evidence
from trimpot.knobs.noise import floor, of_mean_difference, repeats

ARMS = {
    "a": {"knob": 1.0, "family": "sft", "order": 0},
    "a, again": {"knob": 1.0, "family": "sft", "order": 1},
    "b": {"knob": 2.0, "family": "dpo", "order": 0},
    "b, again": {"knob": 2.0, "family": "dpo", "order": 1},
    "alone": {"knob": 3.0, "family": "dpo", "order": 0},
    "no order": {"knob": 1.0, "family": "sft"},
}
RESULTS = {
    "a": {"10": {"accuracy": 0.5, "kl": 1.0}, "11": {"accuracy": 0.6}},
    "a, again": {"10": {"accuracy": 0.7, "kl": 1.0}, "11": {"accuracy": 0.6}},
    "b": {"10": {"accuracy": 0.0}, "11": {"accuracy": 0.9}},
    "b, again": {"10": {"accuracy": 0.4}},
    "alone": {"10": {"accuracy": 9.0}, "11": {"accuracy": 0.0}},
    "no order": {"10": {"accuracy": 9.0}, "11": {"accuracy": 0.0}},
}


def evidence(arms=ARMS, results=RESULTS):
    conditions = Conditions("tiny", "small", "quick", {}, {}, None, "now", 1.0)
    return Evidence("toy", "?", "hash", (10, 11), arms, results, (), {}, None, conditions)


def test_arms_that_differ_in_order_alone_are_repeats():
    assert repeats(evidence()) == {"a": ["a", "a, again"], "b": ["b", "b, again"]}
    assert repeats(evidence(), {"family": "dpo"}) == {"b": ["b", "b, again"]}


def test_the_spread_is_pooled_over_recipes_and_seeds_by_hand():
    # a: seed 10: 0.5, 0.7 -> 0.01 + 0.01; seed 11: 0. b: seed 10: 0, 0.4 -> 0.04 + 0.04; seed 11: one value, left out.
    found = floor(evidence())
    assert found["accuracy"] == pytest.approx(math.sqrt((0.02 + 0.0 + 0.08) / 3))
    assert found["kl"] == 0.0
    assert floor(evidence(), {"family": "sft"})["accuracy"] == pytest.approx(math.sqrt((0.02 + 0.0) / 2))
    assert floor(evidence(), {"family": "dpo"}) == pytest.approx({"accuracy": math.sqrt(0.08)})


def test_three_repeats_have_two_degrees_of_freedom():
    arms = {f"{number}": {"knob": 1.0, "order": number} for number in range(3)}
    results = {f"{number}": {"10": {"kl": float(number)}} for number in range(3)}
    # 0, 1, 2: mean 1, squares 1 + 0 + 1 over 2.
    assert floor(evidence(arms, results)) == {"kl": pytest.approx(1.0)}


def test_nothing_repeated_gives_no_number():
    assert floor(evidence({"alone": ARMS["alone"]}, RESULTS)) == {}


def test_a_mean_over_more_seeds_strays_less():
    assert of_mean_difference(0.1, 8) == pytest.approx(0.05)
    assert of_mean_difference(0.1, 2) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="0 seeds"):
        of_mean_difference(0.1, 0)
