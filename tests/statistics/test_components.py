"""Variance components: hand arithmetic, REML of statsmodels where both agree, unbiasedness, coverage."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from trimpot.statistics.components import _interval, variance_components


def parts(scores, factors, **more):
    return {one.name: one for one in variance_components(scores, factors, **more)}


def test_example_of_the_docstring():
    found = parts([1, 1, 0, 0], {"item": "aabb"})
    assert found["item"].variance == pytest.approx(0.5)
    assert found["residual"].variance == pytest.approx(0.0, abs=1e-12)
    assert found["item"].share == pytest.approx(1.0)


def test_a_balanced_design_gives_the_reml_estimates_of_statsmodels():
    generator = np.random.default_rng(0)
    item = np.repeat(np.arange(40), 5)
    y = generator.standard_normal(40)[item] + 0.5 * generator.standard_normal(200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = smf.mixedlm("y ~ 1", pd.DataFrame({"y": y, "g": item}), groups="g").fit(reml=True)
    found = parts(y, {"item": item.tolist()})
    assert found["item"].variance == pytest.approx(float(theirs.cov_re.iloc[0, 0]), rel=1e-3)
    assert found["residual"].variance == pytest.approx(float(theirs.scale), rel=1e-3)


def few_draws(monkeypatch, count):
    monkeypatch.setattr("trimpot.statistics.components.DRAWS", count)
    monkeypatch.setattr("trimpot.statistics.components.FEWEST", count)


def crossed(generator, drop, sd=(0.4, 0.2, 0.1, 0.3)):
    """60 items × 4 templates × 3 seeds, a share of the cells missing: y, factors."""
    grid = np.stack(np.meshgrid(np.arange(60), np.arange(4), np.arange(3), indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[generator.random(len(grid)) >= drop]
    y = 1 + sd[3] * generator.standard_normal(len(grid))
    for column, (count, one) in enumerate(zip((60, 4, 3), sd, strict=False)):
        y = y + one * generator.standard_normal(count)[grid[:, column]]
    return y, {name: grid[:, column].tolist() for column, name in enumerate(("item", "template", "seed"))}


def test_unbalanced_crossed_factors_are_estimated_without_bias(monkeypatch):
    few_draws(monkeypatch, 2)  # the estimates do not depend on the simulation of intervals
    generator = np.random.default_rng(1)
    wanted = {"item": 0.16, "template": 0.04, "seed": 0.01, "residual": 0.09}
    found = {name: [] for name in wanted}
    draws = 300
    for _ in range(draws):
        for one in variance_components(*crossed(generator, 0.3)):
            found[one.name].append(one.variance)
    for name, value in wanted.items():
        error = np.std(found[name]) / np.sqrt(draws)
        assert np.mean(found[name]) == pytest.approx(value, abs=4 * error), name


def test_samples_nested_in_items_and_a_grader():
    """Two graders score each of 3 samples of 50 items; graders differ by a constant."""
    generator = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(np.arange(50), np.arange(3), np.arange(2), indexing="ij"), axis=-1).reshape(-1, 3)
    sample = grid[:, 0] * 3 + grid[:, 1]
    y = 0.5 * generator.standard_normal(50)[grid[:, 0]] + 0.3 * generator.standard_normal(150)[sample]
    y = y + np.array([0.0, 0.4])[grid[:, 2]] + 0.1 * generator.standard_normal(len(grid))
    found = parts(y, {"item": grid[:, 0].tolist(), "sample": sample.tolist(), "grader": grid[:, 2].tolist()})
    assert found["item"].variance == pytest.approx(0.25, rel=0.5)
    assert found["sample"].variance == pytest.approx(0.09, rel=0.3)
    assert found["grader"].variance == pytest.approx(0.08, rel=0.2)
    assert found["residual"].variance == pytest.approx(0.01, rel=0.3)
    assert sum(one.share for one in found.values()) == pytest.approx(1)
    assert found["grader"].levels == 2
    # Two levels say next to nothing: the interval knows it.
    assert found["grader"].high > 50 * found["grader"].variance
    assert found["item"].high < 2.5 * found["item"].variance


def test_intervals_of_a_component_cover_it(monkeypatch):
    few_draws(monkeypatch, 100)
    generator = np.random.default_rng(3)
    covered = {"item": 0, "seed": 0, "residual": 0}
    draws = 150
    for number in range(draws):
        item, seed = np.repeat(np.arange(30), 5), np.tile(np.arange(5), 30)
        y = 0.5 * generator.standard_normal(30)[item] + 0.4 * generator.standard_normal(5)[seed]
        y = y + 0.3 * generator.standard_normal(150)
        found = parts(y, {"item": item.tolist(), "seed": seed.tolist()}, seed=number)
        for name, wanted in (("item", 0.25), ("seed", 0.16), ("residual", 0.09)):
            covered[name] += found[name].low <= wanted <= found[name].high
    # 150 draws: a standard deviation of 1.8 points about 95%.
    assert all(count / draws >= 0.88 for count in covered.values()), covered


def test_what_the_data_cannot_tell_is_none():
    found = parts([1.0, 0.0, 1.0], {"item": "abc"})
    assert found["item"].variance is None  # one answer each: item and residual are one
    found = parts([1.0, 0.0, 1.0, 0.0], {"item": "aabb", "again": "xxyy", "seed": "ssss"})
    assert found["again"].variance is None
    assert found["seed"].variance is None
    assert found["item"].variance == 0.0
    assert parts([], {"item": []})["residual"].variance is None


def test_refuses_what_is_no_design():
    for scores, factors in (([1.0], {}), ([1.0], {"residual": "a"}), ([1.0, 2.0], {"item": "a"})):
        with pytest.raises(ValueError):
            variance_components(scores, factors)
    with pytest.raises(ValueError):
        variance_components([float("nan")], {"item": "a"})


def test_scores_without_spread_have_no_shares():
    found = parts([1.0, 1.0, 1.0, 1.0], {"item": "aabb"})
    assert (found["item"].variance, found["item"].share) == (0.0, None)


@pytest.mark.parametrize("variance", [1e-18, 1e-9, 1e-3])
def test_a_variance_far_below_its_spread_has_an_interval_around_it(variance):
    # Its degrees of freedom are so few that the quantiles of chi-squared underflow to 0.
    low, high = _interval(variance, np.array([-1.0, 0.0, 1.0]), 0.95)
    assert 0 <= low <= variance <= high
