"""The refit of Chinchilla's law, on points made here: the real ones are Epoch AI's and are not kept with trimpot."""

import numpy as np
import pytest

from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.statistics.scaling_laws import fit
from trimpot.statistics.scaling_points import runs_of
from trimpot.studies import chinchilla_refit
from trimpot.studies.chinchilla_refit import MEAN, SUM, depth, left_over, points_file, without_highest

STUDY = chinchilla_refit.STUDY


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "seed"
    folder.mkdir()
    return folder


def test_depth_in_half_widths():
    interval = Estimate(3.0, 2.0, 6.0, 10, "bootstrap")
    assert depth(interval, 3.0) == 0.5
    assert depth(interval, 4.0) == 1.0
    assert depth(interval, 8.0) == -1.0
    with pytest.raises(ValueError, match="no interval"):
        depth(Estimate(3.0, None, None, 10, "none"), 3.0)


def test_the_highest_losses_are_left_out():
    runs = runs_of([3.0, 5.0, 2.0, 5.0], [1e6, 2e6, 3e6, 4e6], [1e8] * 4)
    assert without_highest(runs, 2).loss.tolist() == [3.0, 2.0]
    assert without_highest(runs, 0).loss.tolist() == [3.0, 5.0, 2.0, 5.0]


def test_points_that_are_absent_or_changed_are_refused(cache):
    with pytest.raises(UsageError, match="curl --create-dirs -o") as error:
        chinchilla_refit.prepare({}, 10, cache)
    assert "without a licence" in str(error.value)
    points_file().parent.mkdir(parents=True)
    points_file().write_text("Model Size,Training FLOP,loss\n1e9,1e20,2.5\n")
    with pytest.raises(UsageError, match="is not the file of 245 points"):
        chinchilla_refit.prepare({}, 10, cache)


def test_an_averaged_objective_stops_farther_from_the_least():
    noise = np.random.default_rng(0)
    parameters, tokens = np.exp(noise.uniform(18, 23, 60)), np.exp(noise.uniform(21, 25, 60))
    loss = (1.8 + 480 / parameters**0.35 + 2000 / tokens**0.37) * np.exp(0.004 * noise.normal(size=60))
    runs = runs_of(loss, parameters, tokens)
    least = fit(runs, draws=0).objective
    left = {way: left_over(runs, way, 4, 1, least) for way in (SUM, MEAN)}
    assert left[SUM] > -1e-6
    assert left[MEAN] > left[SUM]


def test_budgets_have_the_arms_of_every_test():
    for budget in STUDY.budgets.values():
        assert STUDY.tests_of(budget).keys() == STUDY.tests.keys()
        assert STUDY.control.applies(budget.arms)
    assert set(STUDY.claims.values()) <= STUDY.tests.keys()
