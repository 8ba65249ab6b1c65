"""Bradley–Terry: hand arithmetic, agreement with scipy and scikit-learn, separation, coverage over prompts."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from trimpot.core.errors import UsageError
from trimpot.statistics.bradley_terry import Comparison, bradley_terry, elo


def games(first, second, won, tied, lost):
    scores = [1.0] * won + [0.5] * tied + [0.0] * lost
    return [Comparison(first, second, score, f"{first}{second}{i}") for i, score in enumerate(scores)]


def rated(comparisons, **more):
    return {one.name: one for one in bradley_terry(comparisons, 0, **{"draws": 50, **more})}


def test_example_of_the_docstring():
    found = rated(games("a", "b", 3, 0, 1))
    assert found["a"].strength.value == pytest.approx(math.log(3) / 2)
    assert found["a"].elo.value == pytest.approx(1095.4, abs=0.1)
    assert found["b"].elo.value == pytest.approx(904.6, abs=0.1)
    assert (found["a"].mean_win_rate, found["a"].comparisons) == (0.75, 4)
    assert elo(math.log(10)) == pytest.approx(1400)


def test_a_tie_is_half_a_win_for_each():
    tied = rated(games("a", "b", 2, 2, 0))["a"].strength.value
    assert tied == pytest.approx(math.log(3) / 2)  # 3 of 4 points


def test_a_chain_of_models_adds_up():
    found = rated(games("a", "b", 3, 0, 1) + games("b", "c", 2, 0, 1))
    # No a–c games: β_a − β_b = ln 3, β_b − β_c = ln 2.
    assert found["a"].strength.value - found["b"].strength.value == pytest.approx(math.log(3))
    assert found["b"].strength.value - found["c"].strength.value == pytest.approx(math.log(2))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9), st.integers(1, 30)), min_size=6, max_size=6))
def test_agrees_with_scipys_maximum_of_the_likelihood(counts):
    names = "abcd"
    rows = [g for pair, n in zip(itertools.combinations(names, 2), counts, strict=True) for g in games(*pair, *n)]
    found = rated(rows, draws=1)
    first = np.array([names.index(one.first) for one in rows])
    second = np.array([names.index(one.second) for one in rows])
    score = np.array([one.score for one in rows])

    def loss(beta):
        gap = beta[first] - beta[second]
        return -(score * gap - np.logaddexp(0, gap)).sum() + beta.sum() ** 2

    theirs = optimize.minimize(loss, np.zeros(4), tol=1e-10).x
    assert [found[name].strength.value for name in names] == pytest.approx(list(theirs - theirs.mean()), abs=1e-4)


def test_agrees_with_logistic_regression_without_intercept():
    rows = games("a", "b", 20, 0, 10) + games("b", "c", 14, 0, 16) + games("a", "c", 9, 0, 21)
    found = rated(rows, draws=1)
    design = np.array([[(one.first == n) - (one.second == n) for n in "abc"] for one in rows], dtype=float)
    model = LogisticRegression(C=1e8, fit_intercept=False, tol=1e-12, max_iter=1000)
    theirs = model.fit(design, [int(one.score) for one in rows]).coef_[0]
    assert [found[n].strength.value for n in "abc"] == pytest.approx(list(theirs - theirs.mean()), abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["ab", "bc", "ca"]), st.sampled_from([0, 0.5, 1])), min_size=1, max_size=30))
def test_the_order_within_and_of_comparisons_does_not_matter(drawn):
    rows = [Comparison("a", "b", 0.5, "x"), Comparison("b", "c", 0.5, "y")]
    rows += [Comparison(*pair, score, str(i)) for i, (pair, score) in enumerate(drawn)]
    turned = [Comparison(one.second, one.first, 1 - one.score, one.cluster) for one in reversed(rows)]
    one, other = rated(rows, draws=1), rated(turned, draws=1)
    for name in "abc":
        assert one[name].strength.value == pytest.approx(other[name].strength.value, abs=1e-6)
        assert one[name].mean_win_rate == pytest.approx(other[name].mean_win_rate)


def test_models_that_nothing_joins_are_refused_in_one_line():
    with pytest.raises(UsageError, match=r"no path of comparisons joins 'a' and 'c'") as caught:
        bradley_terry(games("a", "b", 1, 0, 1) + games("c", "d", 1, 0, 1), 0)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="there is none"):
        bradley_terry([], 0)


def test_a_model_that_always_wins_has_no_rating_and_says_so_and_the_others_keep_theirs():
    rows = games("top", "a", 9, 0, 0) + games("top", "b", 9, 0, 0) + games("a", "b", 30, 0, 10)
    ratings = bradley_terry(rows, 0, draws=100)
    assert [one.name for one in ratings] == ["top", "a", "b"]
    top, a, _ = ratings
    assert (top.strength.value, top.strength.low, top.elo.value, top.mean_win_rate) == (None, None, None, 1.0)
    assert "unbounded above" in top.note
    assert a.strength.value == pytest.approx(math.log(3) / 2)
    assert a.strength.low is not None
    assert a.strength.low < a.strength.value < a.strength.high


def test_two_models_one_of_which_always_wins_are_both_unrated():
    top, bottom = bradley_terry(games("b", "a", 0, 0, 7), 0, draws=20)
    assert (top.name, top.strength.value, bottom.strength.value) == ("a", None, None)
    assert "unbounded above" in top.note
    assert "unbounded below" in bottom.note


def test_a_model_with_one_upset_has_a_one_sided_interval():
    rows = games("a", "b", 40, 0, 40) + games("top", "a", 30, 0, 1) + games("top", "b", 30, 0, 0)
    top = rated(rows, draws=400)["top"]
    # A third of all resamples leave the one upset out: 95% of them cannot bound the rating above.
    assert top.strength.high is None
    assert top.strength.low is not None
    assert top.strength.low < top.strength.value
    assert top.note == "no upper bound: too few upsets"


def test_one_prompt_has_no_interval():
    rows = [Comparison("a", "b", 1.0, "p"), Comparison("a", "b", 0.0, "p")]
    one = rated(rows)["a"]
    assert (one.strength.value, one.strength.low, one.note) == (0.0, None, "no interval: one prompt")


def test_ties_alone_are_no_certainty():
    one = rated(games("a", "b", 0, 20, 0))["a"]
    assert (one.strength.value, one.strength.low, one.strength.high) == (0.0, None, None)
    assert one.note == "no interval: all prompts say the same"


def test_judgments_that_share_a_prompt_widen_the_interval():
    rng = np.random.default_rng(3)
    wins = rng.random(60) < 0.6
    alone = [Comparison("a", "b", float(w), f"{i}/{k}") for i, w in enumerate(wins) for k in range(5)]
    shared = [Comparison("a", "b", float(w), f"{i}") for i, w in enumerate(wins) for k in range(5)]

    def width(rows):
        strength = rated(rows, draws=400)["a"].strength
        return strength.high - strength.low

    # Five copies of one judgment are one: the interval is √5 = 2.24 times as wide.
    assert width(shared) / width(alone) == pytest.approx(math.sqrt(5), rel=0.2)


def test_intervals_hold_the_true_rating_nineteen_times_in_twenty_when_prompts_are_clusters():
    truth = np.array([0.6, 0.0, -0.6])
    hits = total = 0
    for trial in range(120):
        rng = np.random.default_rng(trial)
        rows = []
        for prompt in range(80):
            # The prompt suits each model more or less: judgments of one prompt depend on each other.
            strengths = truth + rng.normal(0, 0.5, 3)
            for i, j in ((0, 1), (1, 2), (0, 2)):
                score = float(rng.random() < expit(strengths[i] - strengths[j]))
                rows.append(Comparison("abc"[i], "abc"[j], score, str(prompt)))
        # What the ratings estimate: the marginal odds, by the Gauss–Hermite mean over the prompt's whims.
        found = {one.name: one for one in bradley_terry(rows, trial, draws=200)}
        for i, name in enumerate("abc"):
            hits += found[name].strength.low <= MARGINAL[i] <= found[name].strength.high
            total += 1
    assert 0.91 <= hits / total <= 0.985


def _marginal():
    """The ratings of infinitely many prompts of the simulation above."""
    truth, pairs = np.array([0.6, 0.0, -0.6]), ((0, 1), (1, 2), (0, 2))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    sd = math.sqrt(2) * 0.5
    share = [float(weights @ expit(truth[i] - truth[j] + sd * nodes) / weights.sum()) for i, j in pairs]

    def gradient(beta):
        beta = np.array([*beta, -sum(beta)])
        residual = np.zeros(3)
        for (i, j), p in zip(pairs, share, strict=True):
            gap = p - expit(beta[i] - beta[j])
            residual[i] += gap
            residual[j] -= gap
        return residual[:2]

    first = optimize.fsolve(gradient, [0.5, 0.0])
    return [*first, -first.sum()]


MARGINAL = _marginal()


def test_a_thousand_draws_of_twenty_models_take_seconds():
    rng = np.random.default_rng(0)
    beta = rng.normal(0, 1, 20)
    rows = []
    for prompt in range(1000):
        i, j = rng.choice(20, 2, replace=False)
        rows.append(Comparison(f"m{i}", f"m{j}", float(rng.random() < expit(beta[i] - beta[j])), str(prompt)))
    began = time.monotonic()
    ratings = bradley_terry(rows, 0)
    assert len(ratings) == 20
    assert time.monotonic() - began < 20


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="score is 2"):
        bradley_terry([Comparison("a", "b", 2, "p")], 0)
    with pytest.raises(ValueError, match="with itself"):
        bradley_terry([Comparison("a", "a", 1, "p")], 0)
    with pytest.raises(ValueError, match="draws is 0"):
        bradley_terry(games("a", "b", 1, 0, 1), 0, draws=0)
