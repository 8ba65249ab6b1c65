"""Sweeps: predictions read, arms made, and comparisons by hand arithmetic."""

from __future__ import annotations

import pytest
import yaml

from trimpot.core.errors import UsageError
from trimpot.statistics.intervals import mean_interval
from trimpot.statistics.paired import paired_difference
from trimpot.studies.sweep_arms import make_arms, read_knobs, split_values
from trimpot.studies.sweep_measures import ArmDifference, Change
from trimpot.studies.sweep_prediction import GRAMMAR, RECIPE, outcome_of, read_prediction
from trimpot.studies.sweep_runs import written

BETAS = {f"preference.beta={value:g}": {"preference.beta": value} for value in (0.05, 0.1, 0.5)}


# Predictions


@pytest.mark.parametrize(
    ("text", "direction", "margin"),
    [
        ("accuracy rises with preference.beta", "up", None),
        ("accuracy  FALLS with beta; because it moves less.", "down", None),
        ("accuracy stays with beta", "equal", 0.02),
        ("accuracy stays within 0.1 with beta.", "equal", 0.1),
    ],
)
def test_a_trend_is_read(text, direction, margin):
    prediction = read_prediction(text, BETAS)
    (part,) = prediction.parts
    assert prediction.metric == "accuracy"
    assert (part.direction, part.margin) == (direction, margin)
    assert part.measure == Change("accuracy", "preference.beta", "accuracy from preference.beta 0.05 to 0.5")


def test_the_best_arm_is_compared_with_every_other():
    prediction = read_prediction("0.10 is best; whatever", BETAS)
    assert [(one.measure.first, one.measure.second, one.direction) for one in prediction.parts] == [
        ("preference.beta=0.1", "preference.beta=0.05", "up"),
        ("preference.beta=0.1", "preference.beta=0.5", "up"),
    ]
    lowest_loss = read_prediction("beta=0.5 is best", BETAS, "loss")
    assert {one.direction for one in lowest_loss.parts} == {"down"}
    assert {one.direction for one in read_prediction("0.5 is highest", BETAS, "kl").parts} == {"up"}


def test_a_pair_is_compared_as_it_is_written():
    (part,) = read_prediction("0.1 > 0.5", BETAS).parts
    assert (part.measure.first, part.measure.second, part.direction) == (
        "preference.beta=0.1", "preference.beta=0.5", "up",
    )  # fmt: skip
    (turned,) = read_prediction("0.1 < 0.5", BETAS).parts
    assert (turned.measure.first, turned.measure.second) == ("preference.beta=0.5", "preference.beta=0.1")
    with_recipe = {RECIPE: {"sft.steps": 4.0}, "sft.steps=8": {"sft.steps": 8.0}}
    (part,) = read_prediction("8 > recipe", with_recipe, "sft.loss").parts
    assert part.measure.second == RECIPE


def test_a_trend_over_one_of_several_knobs_holds_the_others_at_the_recipes_own():
    arms = make_arms({"sft.steps": ["8"], "sft.batch": ["4", "16"]}, {"sft.steps": 4.0, "sft.batch": 8.0})
    (part,) = read_prediction("loss falls with batch", arms).parts
    assert part.measure.where == {"sft.steps": 4.0}
    assert "from sft.batch 4 to 16" in part.measure.words


@pytest.mark.parametrize(
    ("text", "metric", "problem"),
    [
        ("it will be better", None, "cannot be scored"),
        ("", None, "cannot be scored"),
        ("; because", None, "cannot be scored"),
        ("accuracy rises with gamma", None, "is no knob of the sweep, which turns preference.beta"),
        ("0.2 is best", None, "'0.2' is not one of the arms"),
        ("0.1 > 0.10", None, "compares an arm with itself"),
        ("loss rises with beta", "accuracy", "speaks of loss, but the metric is accuracy"),
        ("kl stays with beta", None, "does not say within what kl stays"),
        ("accuracy stays within 0 with beta", None, "is no margin above 0"),
        ("accuracy stays within e- with beta", None, "is no margin above 0"),
        ("accuracy rises within 0.1 with beta", None, "'within' is for stays"),
        ("0.1 is best", "kl", "say highest or lowest"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_grammar(text, metric, problem):
    with pytest.raises(UsageError) as caught:
        read_prediction(text, BETAS, metric)
    assert problem in str(caught.value)
    assert GRAMMAR in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_rises_with_a_word():
    arms = {f"preference.objective={name}": {"preference.objective": name} for name in ("dpo", "ipo")}
    with pytest.raises(UsageError, match="no numbers"):
        read_prediction("accuracy rises with objective", arms)
    assert len(read_prediction("dpo > ipo", arms).parts) == 1


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        (["confirmed", "confirmed"], "right"),
        (["confirmed", "inconclusive"], "undecided"),
        (["confirmed", "refuted"], "wrong"),
        ([], "undecided"),
    ],
)
def test_a_prediction_is_right_when_all_of_it_is(verdicts, word):
    assert outcome_of(verdicts) == word


# Comparisons


def test_change_is_the_fitted_difference_between_the_ends():
    arms = {name: {"knob": value} for name, value in (("a", 1.0), ("b", 10.0), ("c", 100.0))}
    values = {"a": {"y": 1.0}, "b": {"y": 2.0}, "c": {"y": 3.0}}
    assert Change("y", "knob", "w").value(arms, values) == pytest.approx(2)
    # x = 0, 1, 4, mean 5/3; y = 0, 1, 0: slope Σ(x − x̄)(y − ȳ)/Σ(x − x̄)² = (−2/3)/(26/3) = −1/13, times 4.
    linear = {name: {"knob": value} for name, value in (("a", 0.0), ("b", 1.0), ("c", 4.0))}
    bent = {"a": {"y": 0.0}, "b": {"y": 1.0}, "c": {"y": 0.0}}
    assert Change("y", "knob", "w").value(linear, bent) == pytest.approx(-4 / 13)


def test_change_needs_numbers_two_of_them_and_every_arm():
    change = Change("y", "knob", "w", {"other": 1.0})
    arms = {"a": {"knob": 1.0, "other": 1.0}, "b": {"knob": 2.0, "other": 1.0}, "c": {"knob": 9.0, "other": 2.0}}
    assert change.applies(arms)
    assert change.value(arms, {"a": {"y": 1.0}, "b": {"y": 4.0}}) == pytest.approx(3)
    assert change.value(arms, {"a": {"y": 1.0}}) is None
    assert not change.applies({name: {**values, "knob": 1.0} for name, values in arms.items()})
    assert not Change("y", "knob", "w").applies({"a": {"knob": "dpo"}, "b": {"knob": 1.0}})


def test_only_items_that_both_arms_have_a_score_of_are_compared():
    arms = {"a": {"knob": 1.0}, "b": {"knob": 2.0}}
    metrics = {
        "a": {"accuracy": 2 / 3, "item/x": 1.0, "item/y": 1.0, "item/z": 0.0},
        "b": {"accuracy": 0.5, "item/x": 1.0, "item/y": 0.0},
    }
    assert ArmDifference("accuracy", "a", "b", "w").value(arms, metrics) == pytest.approx(0.5)
    assert Change("accuracy", "knob", "w").value(arms, metrics) == pytest.approx(-0.5)
    apart = {"a": {"accuracy": 1.0, "item/x": 1.0}, "b": {"accuracy": 1.0, "item/y": 1.0}}
    assert ArmDifference("accuracy", "a", "b", "w").value(arms, apart) is None


def test_the_mean_over_seeds_is_the_paired_difference_clustered_by_seed():
    """Constructed scores: three seeds of four items."""
    first = [[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    second = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]
    metrics = [{"a": _items(one), "b": _items(other)} for one, other in zip(first, second, strict=True)]
    difference = ArmDifference("accuracy", "a", "b", "w")
    by_seed = mean_interval([difference.value({"a": {}, "b": {}}, one) for one in metrics])
    flat = [[float(score) for seed in side for score in seed] for side in (first, second)]
    clustered = paired_difference(*flat, clusters=[seed for seed in range(3) for _ in range(4)])
    assert by_seed.value == pytest.approx(clustered.value)
    assert (by_seed.low, by_seed.high) == pytest.approx((clustered.low, clustered.high))


def _items(scores):
    return {"accuracy": sum(scores) / len(scores), **{f"item/{number}": float(s) for number, s in enumerate(scores)}}


# Arms


def test_values_are_parted_by_commas_outside_brackets():
    assert split_values("0.05, 0.1") == ["0.05", "0.1"]
    assert split_values("[q_proj,v_proj],[o_proj]") == ["[q_proj,v_proj]", "[o_proj]"]


def test_one_knob_is_compared_with_itself_and_several_with_the_recipe():
    assert list(make_arms({"sft.steps": ["4", "8"]}, {"sft.steps": 16.0})) == ["sft.steps=4", "sft.steps=8"]
    assert list(make_arms({"sft.steps": ["4"]}, {"sft.steps": 16.0})) == [RECIPE, "sft.steps=4"]
    own = {"sft.steps": 8.0, "sft.batch": 2.0}
    arms = make_arms({"sft.steps": ["4", "8"], "sft.batch": ["4"]}, own)
    assert arms == {
        RECIPE: own,
        "sft.steps=4": {"sft.steps": 4.0, "sft.batch": 2.0},
        "sft.batch=4": {"sft.steps": 8.0, "sft.batch": 4.0},
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "is missing"),
        (["sft.steps"], "names no knob and values"),
        (["=4"], "names no knob and values"),
        (["sft.steps=4,"], "empty value"),
        (["sft.steps=4", "sft.steps=8"], "for the second time"),
        (["seed=1,2"], "--seeds 5"),
    ],
)
def test_wrong_arms_are_named(given, words):
    with pytest.raises(UsageError, match=words):
        read_knobs(given)


def test_arms_that_are_no_two_are_refused():
    with pytest.raises(UsageError, match="is there twice"):
        make_arms({"preference.beta": ["0.1", "0.10"]}, {"preference.beta": 0.2})
    with pytest.raises(UsageError, match="leaves one arm"):
        make_arms({"preference.beta": ["0.1"]}, {"preference.beta": 0.1})


@pytest.mark.parametrize(("value", "text"), [(8.0, "8"), (5e-05, "5.0e-05"), (0.1, "0.1"), ("null", "null")])
def test_values_are_written_so_that_yaml_reads_them_back(value, text):
    assert written(value) == text
    assert yaml.safe_load(text) == (None if text == "null" else value)
