"""Scores by task and slice: clusters widen intervals, statuses are counted, bits per byte are of the corpus."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trimpot.evaluation.summary import score_of, summarise
from trimpot.statistics.intervals import wilson
from trimpot.store.outcomes import Outcome


def outcome(item: str, score: float | None, cluster: str = "", status: str = "ok", **more) -> Outcome:
    fields = {"task": "t", "slices": {}, "perturbation": "none", "prompt": "p", **more}
    return Outcome("r", "w", item=item, cluster=cluster or item, prompt_ids=(), expected="", output="",
                   score=score, status=status, **fields)  # fmt: skip


def test_independent_scores_of_0_and_1_have_wilsons_interval():
    estimate = score_of([outcome(str(n), float(n < 8)) for n in range(10)])
    assert (estimate.value, estimate.low, estimate.high) == (0.8, *_ends(wilson(8, 10)))
    assert estimate.method == "wilson"


def _ends(estimate):
    return estimate.low, estimate.high


def clustered(*groups):
    """Outcomes with these scores, cluster by cluster."""
    numbered = [(c, i, score) for c, some in enumerate(groups) for i, score in enumerate(some)]
    return [outcome(f"{c}-{i}", float(score), f"c{c}") for c, i, score in numbered]


def test_clusters_of_other_scores_widen_the_interval_by_the_formula():
    # Deviations from 0.75 sum to −0.25 and 0.25: SE = √(2/1 · 0.125)/4 = 0.125; t with 1 degree of freedom.
    estimate = score_of(clustered([1, 0.25], [1, 0.75]))
    half = 0.125 * stats.t.ppf(0.975, 1)
    assert estimate.value == 0.75
    assert (estimate.low, estimate.high) == pytest.approx((0.75 - half, 0.75 + half))
    assert estimate.n == 2


def test_clusters_of_proportions_have_wilsons_interval_with_the_effective_size():
    # 12 clusters of 3: four all right, four all wrong, four with one of three. s̄ = 16/36 = 4/9; sums of deviations
    # are 5/3, −4/3 and −1/3: SE² = 12/11 · 4·(25 + 16 + 1)/9 / 36² = 0.015713.
    groups = [[1, 1, 1]] * 4 + [[0, 0, 0]] * 4 + [[1, 0, 0]] * 4
    estimate = score_of(clustered(*groups))
    size = (4 / 9) * (5 / 9) / 0.0157127 * (stats.t.ppf(0.975, 35) / stats.t.ppf(0.975, 11)) ** 2
    assert 12 < size < 36
    z = stats.norm.ppf(0.975)
    p = 4 / 9
    centre = (p + z * z / 2 / size) / (1 + z * z / size)
    half = z * math.sqrt(p * (1 - p) / size + z * z / 4 / size**2) / (1 + z * z / size)
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half), abs=1e-5)
    assert (estimate.n, estimate.method) == (12, "wilson, clustered")


def test_the_effective_size_is_no_less_than_that_of_clusters_that_agree_wholly():
    # Three pairs: 36/(4 + 4 + 4) = 3 observations, though SE and t would have it 1.07.
    estimate = score_of(clustered([1, 0], [1, 1], [0, 0]))
    assert (estimate.low, estimate.high) == pytest.approx(_ends(wilson(1.5, 3)))


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=2, max_size=12))
def test_intervals_of_proportions_lie_within_0_and_1_around_the_mean_and_are_no_narrower_than_wilsons(groups):
    estimate, n = score_of(clustered(*groups)), sum(map(len, groups))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    plain = wilson(sum(map(sum, groups)), n)
    assert estimate.high - estimate.low >= plain.high - plain.low - 1e-9


def test_coverage_is_nominal_where_items_of_a_cluster_agree():
    # 40 clusters of 5 items that share their cluster's chance, Beta(2, 2): the mean is 0.5.
    generator, hits, unclustered = np.random.default_rng(0), 0, 0
    for _ in range(400):
        chance = generator.beta(2, 2, 40)
        estimate = score_of(clustered(*(generator.random((40, 5)) < chance[:, None]).astype(float)))
        hits += estimate.low <= 0.5 <= estimate.high
        plain = wilson(round(estimate.value * 200), 200)
        unclustered += plain.low <= 0.5 <= plain.high
    # Binomial error of 400 draws at 0.95: 1.1 points.
    assert 0.925 <= hits / 400 <= 0.985
    assert unclustered / 400 < 0.9


def test_samples_of_an_item_are_one_cluster():
    many = [outcome(str(n), float(n % 2), sample=sample) for n in range(20) for sample in range(5)]
    once = [outcome(str(n), float(n % 2)) for n in range(20)]
    widened, single = score_of(many), score_of(once)
    assert (widened.n, widened.value) == (20, 0.5)
    # Answers to one item are alike here: five times as many say nothing more, and claim it not.
    assert widened.high - widened.low == pytest.approx(single.high - single.low, rel=0.25)
    assert widened.high - widened.low > wilson(50, 100).high - wilson(50, 100).low


def test_clusters_that_are_all_right_do_not_claim_certainty():
    estimate = score_of([outcome(str(n), 1.0, f"c{n // 5}") for n in range(10)])
    assert (estimate.low, estimate.high) == pytest.approx(_ends(wilson(2, 2)))


def test_pairs_of_which_one_is_always_right_do_not_claim_certainty():
    estimate = score_of(clustered(*[[1, 0]] * 10))
    assert estimate.low < 0.3
    assert estimate.high > 0.7


def test_bits_per_byte_are_of_the_corpus():
    # 2 bits over 1 byte and 30 over 3... bytes 1 and 3: (2·1 + 10·3)/4 = 8, and not (2 + 10)/2.
    estimate = score_of(
        [outcome("1", 2.0, prompt="a", better="lower"), outcome("2", 10.0, prompt="abc", better="lower")]
    )
    assert estimate.value == pytest.approx(8.0)
    # Linearised: z = 8 + 1·(2 − 8)/2 = 5 and 8 + 3·(10 − 8)/2 = 11; SE = √(((5−8)² + (11−8)²)/(2·1)) = 3.
    half = 3.0 * stats.t.ppf(0.975, 1)
    assert (estimate.low, estimate.high) == pytest.approx((8 - half, 8 + half))


def test_what_has_no_score_is_counted_and_no_part_of_the_mean():
    rows = summarise(
        [
            outcome("1", 1.0, slices={"kind": "a"}),
            outcome("2", 0.0, status="parse_failed", slices={"kind": "a"}),
            outcome("3", None, status="error", slices={"kind": "b"}),
            outcome("4", None, status="unscored"),
        ]
    )
    everything, first, second = rows
    assert (everything.slice, everything.items, everything.answers, everything.scored) == ("all", 4, 4, 2)
    assert everything.score.value == 0.5
    assert everything.statuses == {"ok": 1, "parse_failed": 1, "error": 1, "unscored": 1}
    assert (first.slice, first.score.value, second.slice) == ("kind=a", 0.5, "kind=b")
    assert second.score.value is None
    assert not math.isnan(everything.as_dict()["score"]["value"])


def test_perturbed_forms_have_rows_of_their_own():
    rows = summarise([outcome("1", 1.0), outcome("1", 0.0, perturbation="lowercase"), outcome("2", 1.0, task="u")])
    assert [(row.task, row.perturbation, row.score.value) for row in rows] == [
        ("t", "none", 1.0), ("t", "lowercase", 0.0), ("u", "none", 1.0),
    ]  # fmt: skip


def test_no_outcomes_give_no_rows():
    assert summarise([]) == []
    assert score_of([]).value is None
