"""The sweep over batch sizes: its text, its runs to the goal, its measures by hand, and the study at its smallest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trimpot.models.tiny import tiny
from trimpot.statistics.noise_scale import Moments
from trimpot.studies.batch_measures import HyperbolaProduct, NoiseOverCriticalBatch
from trimpot.studies.batch_sweep import FIRST_LOOK, FreshText, MarkovText, noise_on_the_way, run_to_goal, sweep
from trimpot.studies.noise_scale import STUDY

EASY = {"goal": 1.5, "letters": 4, "length": 8}
"""A goal above what one letter tells: reached soon after the model knows which ids are letters."""


def test_the_text_has_the_entropies_that_are_said() -> None:
    text = MarkovText(3, letters=3, length=400)
    rows = text.rows_RT(500, "check")
    one, two = text.entropies
    pairs = np.zeros((3, 3))
    triples = np.zeros((9, 3))
    np.add.at(pairs, (rows[:, 1:-1].ravel(), rows[:, 2:].ravel()), 1)
    np.add.at(triples, (3 * rows[:, :-2].ravel() + rows[:, 1:-1].ravel(), rows[:, 2:].ravel()), 1)
    for counts, entropy in ((pairs, one), (triples, two)):
        rates = counts / counts.sum(1, keepdims=True).clip(1)
        said = -(counts * np.log(rates.clip(1e-12))).sum() / counts.sum()
        assert said == pytest.approx(entropy, abs=0.01)
    assert 0 < two < one < math.log(3)


def test_rows_never_come_back_and_are_a_function_of_seed_order_and_step() -> None:
    policy = tiny("0.1m")
    source = FreshText(MarkovText(0), policy, 4, order=0)
    first, again, later = source.draw(1, {}), source.draw(1, {}), source.draw(2, {})
    assert first.samples == again.samples
    assert first.samples != later.samples
    assert FreshText(MarkovText(0), policy, 4, order=1).draw(1, {}).samples != first.samples
    assert all(one.targets == 31 for one in first.samples)
    text = policy.tokenizer.decode(first.samples[0].branches[0].ids)
    assert len(text) == 32
    assert set(text) <= set("abcdefgh")


def test_a_run_ends_at_the_goal_and_a_goal_out_of_reach_gives_no_steps() -> None:
    found = run_to_goal(EASY, 0, 8, 3e-3, 400)
    assert found.steps is not None
    assert FIRST_LOOK < found.steps < 400
    assert found.looks == ()
    probed = run_to_goal({**EASY, "probe": True}, 0, 8, 3e-3, 400)
    assert probed.steps == found.steps  # the probe changes nothing
    assert len(probed.looks) >= found.steps
    assert run_to_goal({**EASY, "goal": -1.0}, 0, 8, 1e-2, 12).steps is None


def test_a_sweep_keeps_the_rate_of_the_fewest_steps() -> None:
    told: list[tuple[int, int]] = []
    over = ((4, 16), (1e-3, 1e-2), (0,))
    found = sweep({**EASY, "most": 300}, over, lambda done, total: told.append((done, total)))
    assert [run.batch for run in found] == [4, 16]
    assert all(run.reached for run in found)
    alone = {rate: run_to_goal(EASY, 0, 16, rate, 300).steps or math.inf for rate in (1e-3, 1e-2)}
    assert found[1].steps == min(alone.values())
    assert alone[found[1].learning_rate] == found[1].steps
    assert told[-1] == (4, 4)


def test_the_noise_on_the_way_is_a_ratio_of_means_in_each_part() -> None:
    looks = tuple(Moments(1.0 + place % 2, 10.0 * (place // 2 + 1)) for place in range(12))
    # Parts of two looks: S of 10 k, |G|² of 1 and 2.
    assert noise_on_the_way(looks) == pytest.approx([10 * k / 1.5 for k in range(1, 7)])
    assert noise_on_the_way(looks[:5]) == []
    assert noise_on_the_way((Moments(-9.0, 1.0), *looks[1:])) == []


ARMS = {f"batch {batch}": {"batch": batch, "order": 0} for batch in (4, 16, 32, 64)} | {
    "twin": {"batch": 32, "order": 1}
}
ON = {f"batch {batch}": {"steps": 100 * (1 + 16 / batch)} for batch in (4, 16, 32, 64)} | {"twin": {"steps": 1.0}}


def test_the_noise_scale_is_held_against_the_fitted_critical_batch() -> None:
    measure = NoiseOverCriticalBatch("noise", "steps", "", {"order": 0})
    assert measure.applies(ARMS)
    assert measure.value(ARMS, ON) is None
    noisy = {**ON, "batch 64": {**ON["batch 64"], "noise": 40.0}}
    assert measure.value(ARMS, noisy) == pytest.approx(math.log(40 / 16), abs=1e-6)
    assert measure.value(ARMS, {**noisy, "batch 4": {}}) is None
    assert not measure.applies({name: ARMS[name] for name in ("batch 4", "batch 16")})


def test_the_product_is_one_on_the_hyperbola_and_the_arm_itself_is_not_in_the_fit() -> None:
    measure = HyperbolaProduct("steps", 32, "", {"order": 0})
    assert measure.applies(ARMS)
    assert measure.value(ARMS, ON) == pytest.approx(0, abs=1e-6)
    slow = {**ON, "batch 32": {"steps": 300.0}}
    # S_min 100 and E_min 1600 of the others: (300/100 − 1)(9600/1600 − 1).
    assert measure.value(ARMS, slow) == pytest.approx(math.log(2 * 5), abs=1e-5)
    assert measure.value(ARMS, {**ON, "batch 32": {"steps": 90.0}}) is None


def test_the_study_runs_repeats_and_measures_the_noise_at_one_batch(tmp_path) -> None:
    settings = {**EASY, "most": 200, "rates": (3e-3, 1e-2), "probe_batch": 64}
    metrics = {
        name: STUDY.run(values, settings, 0, tmp_path)
        for name, values in {"batch 8": {"batch": 8, "order": 0}, "batch 64": {"batch": 64, "order": 0}}.items()
    }
    assert metrics["batch 8"] == STUDY.run({"batch": 8, "order": 0}, settings, 0, tmp_path)
    assert metrics["batch 8"]["examples"] == pytest.approx(8 * metrics["batch 8"]["steps"])
    assert "noise" not in metrics["batch 8"]
    assert metrics["batch 64"]["rate"] in settings["rates"]
    other = STUDY.run({"batch": 8, "order": 1}, settings, 0, tmp_path)
    assert other != metrics["batch 8"]
    assert STUDY.run({"batch": 8, "order": 0}, {**settings, "most": 3, "goal": -1.0}, 0, tmp_path) == {"reached": 0.0}


def test_every_budget_decides_every_claim_and_claims_are_known() -> None:
    for budget in STUDY.budgets.values():
        assert set(STUDY.tests_of(budget)) == set(STUDY.tests)
        assert STUDY.control.applies(budget.arms)
        assert budget.seeds >= 5
