import math

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit

from trimpot.evaluation.judges.length_controlled import length_controlled


def simulate(seed, n, skill, length, hardness=0.0):
    """Judgments with a planted θ, φ, ψ; B writes 100 characters more on average, so that length confounds."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(100, 500, n).astype(float), rng.integers(200, 600, n).astype(float)
    delta = b - a
    gamma = rng.normal(size=n)
    chance = expit(skill + length * np.tanh(delta / delta.std()) + hardness * (gamma - gamma.mean()) / gamma.std())
    return (rng.random(n) < chance).astype(float), a, b, gamma


def test_example_of_the_docstring():
    found = length_controlled([1, 1, 0, 1], [5] * 4, [5] * 4, "abcd", 0)
    assert found.raw.value == 0.75
    assert found.win_rate.value == pytest.approx(0.75)
    assert found.skill == pytest.approx(math.log(3))
    assert found.length is None


def test_a_planted_skill_is_recovered_where_length_confounds():
    y, a, b, _ = simulate(0, 4000, skill=0.0, length=1.2)
    found = length_controlled(y, a, b, range(4000), 0, draws=300)
    # B is no better, and wins by its length.
    assert found.raw.value > 0.58
    assert found.raw.low > 0.5
    assert found.win_rate.value == pytest.approx(0.5, abs=0.03)
    assert not found.win_rate.excludes(0.5)
    assert found.length == pytest.approx(1.2, abs=0.15)


def test_a_better_model_with_shorter_answers_is_seen():
    y, a, b, _ = simulate(1, 3000, skill=0.5, length=1.0)
    found = length_controlled(1 - y, b, a, range(3000), 0, draws=300)  # the sides exchanged
    assert found.win_rate.value == pytest.approx(1 - expit(0.5), abs=0.04)
    assert found.win_rate.excludes(0.5)


def test_intervals_hold_the_planted_rate():
    truth, hits = expit(0.3), 0
    for seed in range(150):
        y, a, b, _ = simulate(seed, 250, skill=0.3, length=1.0)
        found = length_controlled(y, a, b, range(250), seed, draws=200)
        hits += found.win_rate.low <= truth <= found.win_rate.high
    assert 0.90 <= hits / 150 <= 0.99


def test_the_maximum_is_scipys():
    y, a, b, gamma = simulate(2, 300, skill=0.4, length=0.8, hardness=0.7)
    y[:40] = 0.5
    found = length_controlled(y, a, b, range(300), 0, gamma, draws=1)
    delta = b - a
    terms = np.stack([np.ones(300), np.tanh(delta / delta.std()), (gamma - gamma.mean()) / gamma.std()], axis=1)

    def loss(beta):
        z = terms @ beta
        return -(y * z - np.logaddexp(0, z)).sum() + 0.5 * (beta[1] ** 2 + beta[2] ** 2)

    theirs = optimize.minimize(loss, np.zeros(3), tol=1e-12).x
    assert [found.skill, found.length, found.difficulty] == pytest.approx(list(theirs), abs=1e-4)
    assert found.win_rate.value == pytest.approx(expit(theirs[0] + theirs[2] * terms[:, 2]).mean(), abs=1e-5)


def test_exchanging_the_sides_turns_the_rates():
    y, a, b, _ = simulate(3, 200, skill=0.4, length=0.5)
    one = length_controlled(y, a, b, range(200), 0, draws=100)
    other = length_controlled(1 - y, b, a, range(200), 0, draws=100)
    assert one.win_rate.value == pytest.approx(1 - other.win_rate.value, abs=1e-6)
    assert one.win_rate.low == pytest.approx(1 - other.win_rate.high, abs=1e-6)


def test_pairs_of_one_prompt_widen_the_interval():
    y, a, b, _ = simulate(4, 100, skill=0.3, length=0.5)
    y, a, b = (np.tile(one, 4) for one in (y, a, b))
    alone = length_controlled(y, a, b, range(400), 0, draws=400).win_rate
    shared = length_controlled(y, a, b, list(range(100)) * 4, 0, draws=400).win_rate
    assert (shared.high - shared.low) / (alone.high - alone.low) == pytest.approx(2, rel=0.25)


def test_what_cannot_be_told_apart_has_no_value_and_says_why():
    always = length_controlled([1, 0, 1], [1, 2, 3], [6, 7, 8], "abc", 0)
    assert (always.win_rate.value, always.raw.value) == (None, pytest.approx(2 / 3))
    assert "differ from A's by +5" in always.note
    extrapolated = length_controlled([1, 0, 1, 0], [1, 2, 3, 4], [6, 8, 9, 11], "abcd", 0)
    assert extrapolated.win_rate.value is not None
    assert "every answer of B is longer" in extrapolated.note
    assert length_controlled([], [], [], [], 0).win_rate.value is None


def test_one_model_winning_all_has_no_interval():
    found = length_controlled([1, 1, 1], [1, 2, 3], [3, 1, 9], "abc", 0)
    assert (found.win_rate.value, found.win_rate.low, found.skill) == (1.0, None, None)
    assert "wins every pair" in found.note


def test_ties_alone_are_no_certainty():
    found = length_controlled([0.5] * 20, range(20), range(20, 0, -1), range(20), 0)
    assert found.win_rate.value == pytest.approx(0.5)
    assert found.win_rate.low is None


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="outside"):
        length_controlled([2], [1], [1], "a", 0)
    with pytest.raises(ValueError, match="1 pairs need 1 units"):
        length_controlled([1], [1], [1], "ab", 0)
