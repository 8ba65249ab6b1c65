"""Scaling laws: hand arithmetic, gradients, planted constants, coverage, published sets, refusals."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize_scalar

from trimpot.core.errors import UsageError
from trimpot.statistics.scaling_constants import PUBLISHED, Published, best_split, critical_batch
from trimpot.statistics.scaling_forms import FORMS, stacked
from trimpot.statistics.scaling_laws import HuberProblem, fit, hold_out
from trimpot.statistics.scaling_points import completed, refuse_beyond, runs_of

PLANTED = {
    "chinchilla": {"E": 1.2, "A": 40.0, "B": 300.0, "alpha": 0.35, "beta": 0.4},
    "chinchilla-parameters": {"E": 1.2, "A": 40.0, "alpha": 0.35},
    "chinchilla-tokens": {"E": 1.2, "B": 300.0, "beta": 0.4},
    "kaplan": {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
    "kaplan-parameters": {"N_c": 8.8e13, "alpha_N": 0.076},
    "kaplan-tokens": {"D_c": 5.4e13, "alpha_D": 0.095},
    "kaplan-compute": {"C_c": 2.7e28, "alpha_C": 0.05},
}
GRID = [(n, d) for n in np.geomspace(1e5, 1e7, 4) for d in np.geomspace(1e6, 1e9, 4)]


def losses(form, constants, parameters, tokens):
    values = {"parameters": parameters, "tokens": tokens, "compute": 6 * np.multiply(parameters, tokens)}
    x = stacked(values, FORMS[form].variables)
    return np.exp(FORMS[form].log_loss(FORMS[form].theta(constants, np.zeros(len(x))), x))


def planted(form="chinchilla", noise=0.0, seed=0, grid=GRID):
    parameters, tokens = np.array(grid).T
    loss = losses(form, PLANTED[form], parameters, tokens)
    loss = loss * np.exp(noise * np.random.default_rng(seed).normal(size=len(loss)))
    return runs_of(loss, parameters, tokens)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_examples_of_the_docstrings():
    assert losses("chinchilla-parameters", {"E": 1.0, "A": 8.0, "alpha": 1.0}, [4.0], [1.0])[0] == pytest.approx(3.0)
    joint = {"N_c": 4.0, "alpha_N": 1.0, "D_c": 6.0, "alpha_D": 0.5}
    assert losses("kaplan", joint, [2.0], [2.0])[0] == pytest.approx(math.sqrt(7))
    assert runs_of([2.0], [1e6], [2e7]).compute[0] == pytest.approx(1.2e14)
    even = {"E": 1.0, "A": 5.0, "B": 5.0, "alpha": 0.5, "beta": 0.5}
    found = best_split(FORMS["chinchilla"], even, 600.0)
    assert (float(found["parameters"]), float(found["tokens"])) == pytest.approx((10.0, 10.0))
    assert critical_batch(2.0) == pytest.approx(7.37e6, rel=1e-3)
    by_hand = 1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28
    assert Published("chinchilla").loss({"parameters": 70e9, "tokens": 1.4e12}) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(1.937, abs=5e-4)


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_gradients_agree_with_finite_differences(form, data):
    runs = planted(form, noise=0.05)
    x = stacked(runs.known(), FORMS[form].variables)
    x = x - x.mean(axis=1)[:, None]
    problem = HuberProblem(FORMS[form], x, np.log(runs.loss), 1e-2)
    start = np.array(data.draw(st.sampled_from(FORMS[form].starts(0.5).tolist())))
    ones = np.ones(len(runs))
    value, gradient = problem.objective(start, ones)
    miss = check_grad(lambda t: problem.objective(t, ones)[0], lambda t: problem.objective(t, ones)[1], start)
    assert miss <= 1e-4 * (1 + np.linalg.norm(gradient))
    by_hand = 0.0
    for miss_of_run in FORMS[form].log_loss(start, x) - np.log(runs.loss):
        size = abs(miss_of_run)
        by_hand += size**2 / 2 if size <= 1e-2 else 1e-2 * (size - 5e-3)
    assert value * 1e-4 == pytest.approx(by_hand)


@pytest.mark.parametrize("form", FORMS)
def test_constants_come_back_from_centred_numbers(form):
    centres = np.array([12.0, 17.0])[: len(FORMS[form].variables)]
    theta = FORMS[form].theta(PLANTED[form], centres)
    found = {name: float(value) for name, value in FORMS[form].read(theta, centres).items()}
    assert found == pytest.approx(PLANTED[form])
    assert set(found) == set(FORMS[form].constants)
    assert len(theta) == len(FORMS[form].bounds(0.0)) == FORMS[form].starts(0.0).shape[1]


@pytest.mark.parametrize("form", FORMS)
def test_planted_constants_are_recovered(form):
    found = fit(planted(form), form, draws=0)
    assert {name: one.value for name, one in found.constants.items()} == pytest.approx(PLANTED[form], rel=1e-3)
    assert np.abs(found.residuals).max() < 1e-6
    assert found.constants[FORMS[form].constants[0]].low is None


def test_a_wild_run_moves_the_law_little():
    runs = planted(noise=0.002)
    loss = runs.loss.copy()
    loss[5] *= 3
    wild = runs_of(loss, runs.parameters, runs.tokens)
    calm, moved = (fit(one, draws=0).predict({"parameters": 2e7, "tokens": 1e9}).value for one in (runs, wild))
    assert moved == pytest.approx(calm, rel=0.01)


def test_intervals_hold_planted_constants_and_new_runs():
    # Of 30 at 95%, 28.5 are expected, and fewer than 24 once in 600 times.
    inside = {"N_c": 0, "alpha_N": 0, "new": 0}
    grid = [(n, 1e8) for n in np.geomspace(1e5, 1e7, 20)]
    noise = np.random.default_rng(7)
    for seed in range(30):
        found = fit(planted("kaplan-parameters", 0.01, seed, grid), "kaplan-parameters", draws=60, seed=seed)
        for name, holds in found.constant_intervals_hold(PLANTED["kaplan-parameters"]).items():
            inside[name] += holds
        new = losses("kaplan-parameters", PLANTED["kaplan-parameters"], [3e7], [1e8])[0] * np.exp(0.01 * noise.normal())
        inside["new"] += not found.predict({"parameters": 3e7}).excludes(new)
    assert min(inside.values()) >= 24, inside


def test_intervals_are_narrower_with_less_noise_and_repeat_with_the_seed():
    point = {"parameters": 2e7, "tokens": 1e9}
    widths = []
    for noise in (0.01, 0.002):
        one = fit(planted(noise=noise), draws=30).predict(point)
        widths.append(one.high - one.low)
    assert widths[1] < widths[0]
    again = fit(planted(noise=0.002), draws=30).predict(point)
    assert again == one
    assert fit(planted(noise=0.002), draws=30, seed=1).predict(point).low != one.low


def test_rows_of_one_run_are_resampled_together():
    # Every row ten times: resampled by itself it seems tenfold evidence, in its cluster it is what it was.
    grid = [(n, 1e8) for n in np.geomspace(1e5, 1e7, 10)]
    runs = planted("kaplan-parameters", 0.02, grid=grid)
    columns = [np.tile(values, 10) for values in (runs.loss, runs.parameters, runs.tokens)]
    squares = {"form": "kaplan-parameters", "draws": 100, "delta": 1.0}
    apart = fit(runs_of(*columns), **squares)
    together = fit(runs_of(*columns, clusters=list(range(10)) * 10), **squares)
    once = fit(runs, **squares)
    intervals = [one.constants["alpha_N"] for one in (apart, together, once)]
    width_apart, width_together, width_once = (one.high - one.low for one in intervals)
    assert width_apart == pytest.approx(width_once / math.sqrt(10), rel=0.3)
    assert width_together == pytest.approx(width_once, rel=0.01)
    assert together.constants["alpha_N"].n == 10


def test_the_largest_size_is_held_out_and_predicted():
    runs = planted(noise=0.003)
    found = hold_out(runs, draws=60)
    assert len(found.fit.runs) == 12
    assert set(found.held_out.parameters) == {runs.parameters.max()}
    assert found.held_out.tokens[found.largest] == runs.tokens.max()
    assert found.inside[found.largest]
    assert max(map(abs, found.errors)) < 0.02
    for row, error in enumerate(found.errors):
        assert error == pytest.approx(found.predicted[row].value / found.held_out.loss[row] - 1)
    alone = hold_out(runs, what="run", draws=0)
    assert len(alone.fit.runs) == 15
    assert alone.held_out.compute[0] == runs.compute.max()
    # Beside a law that is off by 20% no interval holds.
    wrong = runs_of(
        np.where(runs.parameters == runs.parameters.max(), 1.2, 1.0) * runs.loss, runs.parameters, runs.tokens
    )
    assert not any(hold_out(wrong, draws=60).inside)


@pytest.mark.parametrize("form", ["chinchilla", "kaplan"])
@pytest.mark.parametrize("compute", [1e15, 1e18])
def test_the_split_has_the_least_loss_of_its_compute(form, compute):
    found = best_split(FORMS[form], PLANTED[form], compute)

    def loss(log_n):
        return losses(form, PLANTED[form], [np.exp(log_n)], [compute / (6 * np.exp(log_n))])[0]

    least = minimize_scalar(loss, bounds=(np.log(1e2), np.log(1e12)), method="bounded", options={"xatol": 1e-9})
    assert math.log(found["parameters"]) == pytest.approx(least.x, abs=1e-4)
    assert 6 * found["parameters"] * found["tokens"] == pytest.approx(compute)
    more = best_split(FORMS[form], PLANTED[form], 10 * compute)
    grown = math.log10(more["parameters"] / found["parameters"])
    assert grown == pytest.approx(float(found["parameters_exponent"]))


def test_a_fitted_split_has_intervals():
    true = best_split(FORMS["chinchilla"], PLANTED["chinchilla"], 1e16)
    inside = []
    for seed in range(4):
        fitted = fit(planted(noise=0.003, seed=seed), draws=40, seed=seed)
        found = fitted.split(1e16)
        own = {name: one.value for name, one in fitted.constants.items()}
        assert found["parameters"].value == pytest.approx(float(best_split(fitted.form, own, 1e16)["parameters"]))
        assert found["loss"].value == pytest.approx(
            float(losses("chinchilla", own, [found["parameters"].value], [found["tokens"].value])[0])
        )
        inside.append([not found[name].excludes(float(true[name])) for name in ("tokens", "parameters_exponent")])
    assert np.sum(inside) >= 5
    assert found["tokens_per_parameter"].value == pytest.approx(found["tokens"].value / found["parameters"].value)


def test_published_optima_are_those_of_the_literature():
    # Hoffmann's printed constants call for 93 tokens per parameter, Epoch's refit for 18.
    assert Published("chinchilla").split(5.76e23)["tokens_per_parameter"] == pytest.approx(92.6, abs=0.1)
    assert Published("chinchilla-refit").split(5.76e23)["tokens_per_parameter"] == pytest.approx(18.4, abs=0.1)


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("kaplan-parameters", {"N_c": 8.8e13, "alpha_N": 0.076}),
        ("kaplan-tokens", {"D_c": 5.4e13, "alpha_D": 0.095}),
        ("kaplan-compute", {"C_c": 3.1e8 * 1e15 * 86400, "alpha_C": 0.05}),
        ("kaplan", {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}),
        ("chinchilla", {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}),
        ("chinchilla-refit", {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}),
    ],
)
def test_published_sets_are_whole(name, constants):
    assert dict(Published(name).constants) == pytest.approx(constants)
    assert set(constants) == set(Published(name).form.constants)


def test_published_sets_cannot_be_mixed():
    law = Published("kaplan-parameters")
    with pytest.raises(TypeError):
        law.constants["N_c"] = 6.4e13
    # There is no way in for a constant: the name is the only field.
    assert [field.name for field in dataclasses.fields(Published)] == ["name"]
    with pytest.raises(TypeError):
        Published("kaplan-parameters", {"N_c": 6.4e13})
    with pytest.raises(TypeError):
        dataclasses.replace(law, constants=Published("kaplan").constants)
    with pytest.raises(dataclasses.FrozenInstanceError):
        law.name = "kaplan"
    # The laws of N and of D do not join into one of both.
    with pytest.raises(UsageError, match="does not read tokens") as error:
        law.loss({"parameters": 1e8, "tokens": 1e9})
    assert "its own constants" in one_line(error)
    with pytest.raises(UsageError, match="Did you mean 'kaplan'"):
        Published("kaplam")
    both = Published("kaplan").loss({"parameters": 1e8, "tokens": 1e9})
    assert both != pytest.approx(max(law.loss({"parameters": 1e8}), Published("kaplan-tokens").loss({"tokens": 1e9})))
    assert set(PUBLISHED) >= {"kaplan-parameters", "kaplan-tokens", "kaplan", "kaplan-compute", "chinchilla"}


def test_a_fit_is_compared_with_constants_of_its_own_form_only():
    found = fit(planted(noise=0.003), draws=20)
    middle = {name: (one.low + one.high) / 2 for name, one in found.constants.items()}
    assert all(found.constant_intervals_hold(middle).values())
    assert found.constant_intervals_hold({**middle, "E": 3.0}) == {**dict.fromkeys(middle, True), "E": False}
    with pytest.raises(UsageError, match="laws of one form"):
        found.constant_intervals_hold(Published("kaplan").constants)


def test_far_points_need_a_flag():
    found = fit(planted(), draws=0)
    near = {"parameters": 9.9e7, "tokens": 1e9}
    assert found.predict(near).value > 1.2
    for far, text in (
        ({"parameters": 1.1e8, "tokens": 1e9}, "11 times above the largest of the fitted runs, 1e+07"),
        ({"parameters": 1e7, "tokens": 1.1e10}, "11 times above"),
        ({"parameters": 1e3, "tokens": 1e9}, "100 times below the least"),
        ({"parameters": 9e7, "tokens": 9e9}, "compute C"),
    ):
        with pytest.raises(UsageError) as error:
            found.predict(far)
        assert text in one_line(error)
        assert "--beyond" in str(error.value)
        assert found.predict(far, beyond=True).value > 1.2
    with pytest.raises(UsageError, match="compute"):
        found.split(1e20)
    assert found.split(1e20, beyond=True)["loss"].value > 1.2
    with pytest.raises(UsageError, match="runs of kaplan-parameters"):
        Published("kaplan-parameters").loss({"parameters": 1e12})
    assert Published("kaplan-parameters").loss({"parameters": 1e12}, beyond=True) == pytest.approx(88**0.076)


@given(st.floats(1e-3, 1e3))
def test_the_limit_is_ten_times_on_both_sides(ratio):
    ranges = {"parameters": (1.0, 1.0)}
    if 0.1 <= ratio <= 10:
        refuse_beyond({"parameters": ratio}, ranges, beyond=False)
    else:
        with pytest.raises(UsageError):
            refuse_beyond({"parameters": ratio}, ranges, beyond=False)


@pytest.mark.parametrize(
    ("columns", "form", "text"),
    [
        (([2.0] * 5, [1e6, 2e6, 3e6, 4e6, 5e6], [1e7, 1e8, 1e9, 1e8, 1e7]), "chinchilla", "there are 5 runs"),
        (([2.0] * 8, [1e6] * 8, np.geomspace(1e7, 1e9, 8)), "chinchilla", "one value of it. Fit chinchilla-tokens"),
        (([2.0] * 8, np.geomspace(1e5, 1e7, 8), [1e8] * 8), "chinchilla", "Fit chinchilla-parameters"),
        (([2.0] * 8, [1e6] * 8, np.geomspace(1e7, 1e9, 8)), "kaplan", "Fit kaplan-tokens"),
        (([2.0] * 8, [1e6] * 8, None), "kaplan-parameters", "Add runs with other parameters"),
        (([2.0] * 8, [1e6, 2e6] * 4, None), "chinchilla-parameters", "needs 3 values of parameters"),
        (([2.0] * 8, np.geomspace(1e5, 1e7, 8), 20 * np.geomspace(1e5, 1e7, 8)), "chinchilla", "rise in step"),
        (([2.0] * 8, np.geomspace(1e5, 1e7, 8), None), "chinchilla", "reads tokens, which the runs do not give"),
        (([2.0] * 8, np.geomspace(1e5, 1e7, 8), None), "chinchila", "Did you mean 'chinchilla'?"),
    ],
)  # fmt: skip
def test_runs_that_cannot_tell_the_constants_are_refused_in_one_line(columns, form, text):
    with pytest.raises(UsageError) as error:
        fit(runs_of(*columns), form, draws=0)
    assert text in one_line(error)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (([2.0, 0.0], [1e6, 1e7]), "row 2: loss is 0. Leave the run out"),
        (([2.0, math.nan], [1e6, 1e7]), "row 2: loss is nan"),
        (([2.0, 1.0], [-1e6, 1e7]), "row 1: parameters is -1e+06"),
        (([2.0, 1.0], [1e6]), "parameters: has 1 values for 2 rows"),
        (([2.0, 1.0],), "give neither parameters, tokens nor compute"),
        (([], []), "there is none"),
    ],
)
def test_bad_numbers_are_named_by_row(columns, text):
    with pytest.raises(UsageError) as error:
        runs_of(*columns)
    assert text in one_line(error)


def test_few_clusters_are_refused_or_noted():
    runs = planted(noise=0.01)
    two = runs_of(runs.loss, runs.parameters, runs.tokens, clusters=["a"] * 15 + ["b"])
    assert fit(two, draws=0).constants["E"].value > 0
    with pytest.raises(UsageError, match="2 clusters of runs are too few to resample"):
        fit(two, draws=3)
    sizes = runs_of(runs.loss, runs.parameters, runs.tokens, clusters=runs.parameters.tolist())
    found = fit(sizes, draws=3)
    assert "intervals from 4 clusters are rather too narrow" in found.notes


def test_resamples_that_cannot_be_fitted_are_drawn_anew():
    # Six runs for five constants: a resample of fewer than five different ones has no law.
    grid = [(1e5, 1e6), (1e5, 1e7), (1e6, 1e8), (1e6, 1e6), (1e7, 1e7), (1e7, 1e8)]
    found = fit(planted(noise=0.01, grid=grid), draws=5)
    assert found.redrawn > 0
    assert any("drawn anew" in note for note in found.notes)
    assert len(found.draws) == 5


def test_a_part_that_the_runs_do_not_show_is_noted():
    # A plain power law has no floor.
    runs = planted("kaplan-parameters", grid=[(n, 1e8) for n in np.geomspace(1e4, 1e9, 12)])
    found = fit(runs, "chinchilla-parameters", draws=0)
    assert found.constants["E"].value < 0.05
    assert runs.notes == ("compute is 6 x parameters x tokens",)
    rising = runs_of(np.linspace(2, 3, 10), np.geomspace(1e5, 1e7, 10))
    assert any("at its bound" in note for note in fit(rising, "kaplan-parameters", draws=0).notes)


def test_two_of_three_variables_give_the_third():
    assert completed({"parameters": 2.0, "compute": 60.0}) == {"parameters": 2.0, "compute": 60.0, "tokens": 5.0}
    assert completed({"tokens": 5.0, "compute": 60.0})["parameters"] == 2.0
    assert completed({"compute": 60.0}) == {"compute": 60.0}
    with pytest.raises(UsageError, match="Known"):
        completed({"words": 1.0})
    with pytest.raises(UsageError, match="above 0"):
        completed({"tokens": -1.0})
    with pytest.raises(UsageError, match="above 0"):
        critical_batch(0.0)
    with pytest.raises(UsageError, match="no best split"):
        Published("kaplan-compute").split(1e20)
