"""Agreement of raters: hand arithmetic, published examples, agreement with scikit-learn, coverage by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from trimpot.statistics.agreement import cohen_kappa, confusion, fleiss_kappa, krippendorff_alpha

LABELS = st.sampled_from("abc")


def from_table(table):
    pairs = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return [i for i, _ in pairs], [j for _, j in pairs]


def test_cohens_example_of_the_docstring():
    assert cohen_kappa(*from_table([[25, 5], [5, 15]])).value == pytest.approx(0.28 / 0.48)


def kappa_of(p):
    observed, expected = np.trace(p), p.sum(axis=1) @ p.sum(axis=0)
    return (observed - expected) / (1 - expected)


def test_cohens_interval_is_the_delta_method_of_the_multinomial():
    table = np.array([[44, 5, 1], [7, 20, 3], [9, 5, 6]])
    found = cohen_kappa(*from_table(table))
    n, p, gradient = table.sum(), table / table.sum(), np.zeros((3, 3))
    for i, j in itertools.product(range(3), range(3)):
        step = np.zeros((3, 3))
        step[i, j] = 1e-6
        gradient[i, j] = (kappa_of(p + step) - kappa_of(p - step)) / 2e-6
    variance = ((p * gradient**2).sum() - (p * gradient).sum() ** 2) / n
    assert found.value == pytest.approx(kappa_of(p))
    assert found.high - found.value == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-5)


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_cohens_value_agrees_with_scikit_learn(pairs):
    first, second = zip(*pairs, strict=True)
    found = cohen_kappa(first, second)
    if len(set(first) | set(second)) == 1:
        assert found.value is None
        return
    assert found.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    if found.low is not None:
        assert -1 <= found.low <= found.value <= found.high <= 1


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_cohens_kappa_is_symmetric_and_blind_to_names(pairs):
    first, second = zip(*pairs, strict=True)
    one, other = cohen_kappa(first, second), cohen_kappa([f"x{b}" for b in second], [f"x{a}" for a in first])
    for field in ("value", "low", "high"):
        assert getattr(one, field) == pytest.approx(getattr(other, field), abs=1e-9)


def test_raters_who_always_agree_get_no_interval_and_a_constant_label_no_value():
    perfect = cohen_kappa("abab", "abab")
    assert (perfect.value, perfect.low, perfect.n) == (1.0, None, 4)
    assert cohen_kappa("aaaa", "aaaa").value is None
    assert cohen_kappa([], []).value is None
    with pytest.raises(ValueError, match="3 and 2"):
        cohen_kappa("abc", "ab")


def test_cohens_interval_holds_its_level():
    rng, hits = np.random.default_rng(0), 0
    p = np.array([[0.45, 0.10], [0.10, 0.35]])
    truth = kappa_of(p)
    for _ in range(1000):
        found = cohen_kappa(*from_table(rng.multinomial(150, p.ravel()).reshape(2, 2)))
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / 1000 <= 0.97


FLEISS_1971 = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
"""The worked example of the article "Fleiss' kappa" of Wikipedia: κ = 0.210."""


def test_fleiss_published_example_and_that_of_the_docstring():
    ratings = [[label for label, count in enumerate(row) for _ in range(count)] for row in FLEISS_1971]
    found = fleiss_kappa(ratings)
    assert found.value == pytest.approx(0.2099, abs=5e-5)
    assert found.low < found.value < found.high
    assert fleiss_kappa(["aaa", "abb"]).value == pytest.approx(0.25)


def naive_fleiss(ratings):
    labels, m = sorted({label for item in ratings for label in item}), len(ratings[0])
    agree = [sum(a == b for a, b in itertools.combinations(item, 2)) / math.comb(m, 2) for item in ratings]
    share = [sum(item.count(label) for item in ratings) / (m * len(ratings)) for label in labels]
    expected = sum(s * s for s in share)
    return None if expected > 1 - 1e-12 else (sum(agree) / len(agree) - expected) / (1 - expected)


@given(st.integers(2, 4).flatmap(lambda m: st.lists(st.lists(LABELS, min_size=m, max_size=m), min_size=3, max_size=12)))
def test_fleiss_and_its_interval_agree_with_naive_loops(ratings):
    found, value = fleiss_kappa(ratings), naive_fleiss(ratings)
    assert found.value == (None if value is None else pytest.approx(value, abs=1e-9))
    if found.low is None:
        return
    n = len(ratings)
    without = [naive_fleiss(ratings[:i] + ratings[i + 1 :]) for i in range(n)]
    mean = sum(without) / n
    error = math.sqrt((n - 1) / n * sum((one - mean) ** 2 for one in without))
    assert found.high == pytest.approx(min(1, value + stats.t.ppf(0.975, n - 1) * error), abs=1e-9)


def test_fleiss_refuses_uneven_items():
    with pytest.raises(ValueError, match="between 2 and 3 ratings: use krippendorff_alpha"):
        fleiss_kappa(["aa", "aab"])
    with pytest.raises(ValueError, match="at least two ratings"):
        fleiss_kappa(["a", "b"])
    assert fleiss_kappa([]).value is None
    assert fleiss_kappa(["aa", "aa"]).value is None


def test_krippendorffs_example_and_his_own():
    assert krippendorff_alpha(["aa", "bb", "ab"]).value == pytest.approx(4 / 9)
    # Krippendorff 2011, section C: four observers, twelve units, missing values, nominal data.
    units = [
        "111", "2232", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3",
    ]  # fmt: skip
    assert krippendorff_alpha(units).value == pytest.approx(0.743, abs=5e-4)


@given(st.lists(st.lists(LABELS, min_size=0, max_size=4), max_size=12))
def test_krippendorffs_alpha_agrees_with_its_coincidence_matrix(ratings):
    found = krippendorff_alpha(ratings)
    kept = [item for item in ratings if len(item) > 1]
    labels = sorted({label for item in kept for label in item})
    if len(labels) < 2:
        assert found.value is None
        return
    matrix = np.zeros((len(labels), len(labels)))
    for item in kept:
        for a, b in itertools.permutations(item, 2):
            matrix[labels.index(a), labels.index(b)] += 1 / (len(item) - 1)
    totals, n = matrix.sum(axis=1), matrix.sum()
    off = n - np.trace(matrix)
    expected = (totals.sum() ** 2 - totals @ totals) / (n - 1)
    assert found.value == pytest.approx(1 - off / expected, abs=1e-9)
    assert found.n == len(kept)


def test_jackknife_intervals_hold_their_level():
    rng, hits = np.random.default_rng(1), 0
    # A rater gives the item's own label (a or b, evenly) with probability 0.8: two agree with 0.68, κ = 0.36.
    for _ in range(400):
        own = rng.random((80, 1)) < 0.5
        ratings = np.where(rng.random((80, 3)) < 0.8, own, ~own)
        found = fleiss_kappa(ratings.tolist())
        hits += found.low <= 0.36 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_confusion_counts_who_says_what():
    labels, table = confusion("aabb", "abbb")
    assert labels == ["a", "b"]
    assert table.tolist() == [[1, 1], [0, 2]]
