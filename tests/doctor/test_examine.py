"""What the doctor says of a log: findings by evidence, what was looked at, and what was not."""

import math

import pytest

from trimpot.core.findings import Finding
from trimpot.core.stats import Estimate
from trimpot.detectors import DETECTORS
from trimpot.detectors.watch import scan_log
from trimpot.doctor import examine as module
from trimpot.doctor.evidence import Evidence, excess, false_alarm, worst
from trimpot.doctor.examine import FINDINGS, HEALTHY, UNCHECKED, examine
from trimpot.doctor.log import RawLog, clean
from trimpot.doctor.text import lines, verdict

CLEAN = [{"step": step, "loss": 2.0 - 0.01 * step, "grad_norm": 1.0} for step in range(1, 31)]


def log_of(rows, kind="CSV", of_transformers=False):
    return clean(RawLog("log.csv", kind, rows, of_transformers=of_transformers))


def rows_of(window):
    names = [name for name in window if name != "step"]
    return [
        {"step": int(step), **{name: window[name][place] for name in names}}
        for place, step in enumerate(window["step"])
    ]


@pytest.mark.parametrize("name", DETECTORS)
def test_the_series_of_every_detector_are_found_and_passed(name):
    detector = DETECTORS[name]()
    found = examine(log_of(rows_of(detector.trips_on)))
    assert name in {one.finding.detector for one in found.diagnoses}
    assert found.verdict == FINDINGS
    silent = examine(log_of(rows_of(detector.silent_on)))
    assert name not in {one.finding.detector for one in silent.diagnoses}
    assert name in {one.detector for one in silent.checked} | {one.detector for one in silent.not_checked}


@pytest.mark.parametrize("name", DETECTORS)
def test_it_hears_what_scan_log_hears_first(name):
    rows = rows_of(DETECTORS[name]().trips_on)
    live = {}
    for finding in scan_log(rows):
        live.setdefault(finding.detector, finding.step)
    assert {one.finding.detector: one.first for one in examine(log_of(rows)).diagnoses} == live


def test_healthy_is_said_with_what_was_checked_and_what_was_not():
    found = examine(log_of(CLEAN))
    assert found.verdict == HEALTHY
    assert [one.detector for one in found.checked] == ["loss_spike", "gradient_norm", "nothing_supervised"]
    assert {one.detector for one in found.not_checked} >= {"end_not_learned", "prompt_leak", "template_mismatch"}
    assert "kl_blow_up" in found.other_kinds
    seen = {one.detector for one in (*found.checked, *found.not_checked)} | set(found.other_kinds)
    assert seen == set(DETECTORS)
    assert verdict(found) == f"healthy as far as 3 detectors can see; {len(found.not_checked)} more could not look"


def test_a_log_that_no_detector_can_look_at_is_not_healthy():
    found = examine(log_of([{"step": 1, "rewards/accuracies": 0.5}]))
    assert found.verdict == UNCHECKED
    assert verdict(found) == "not checked: no detector could look at this log"


def test_what_was_not_checked_says_why_and_what_to_log():
    rows = [{"step": 10 * step, "loss": 0.7, "rewards/accuracies": 0.5, "rewards/chosen": 0.0} for step in range(1, 6)]
    missing = {one.detector: one for one in examine(log_of(rows)).not_checked}
    assert missing["flipped_labels"].why == "rewards/accuracies and loss: 5 values, of 30 that it needs"
    assert missing["flipped_labels"].log == ()
    assert missing["wrong_reference"].why.startswith("the first row is step 10, and it compares step 1")
    assert missing["margin_saturation"].why == "rewards/margins is not in the log"
    assert missing["margin_saturation"].log == (
        "rewards/margins: mean implicit reward of chosen less rejected answers: TRL's DPOTrainer and KTOTrainer log it",
    )
    assert "nothing_supervised" in {one.detector for one in examine(log_of(rows)).checked}


def test_limits_say_what_a_detector_cannot_see_in_this_log():
    policy = [{"step": step, "loss": 0.0, "reward": 0.5, "grad_norm": 1.0} for step in range(1, 21)]
    (spike, *_) = examine(log_of(policy, of_transformers=True)).checked
    assert [limit.partition(":")[0] for limit in spike.limits] == [
        "NaN and infinity alone",
        "transformers logs the mean in place of a NaN loss; logging_nan_inf_filter=False shows it",
    ]
    pairs = [{"step": step, "loss": 0.6, "rewards/chosen": 0.1, "rewards/margins": 0.1} for step in range(1, 21)]
    by_name = {one.detector: one for one in examine(log_of(pairs)).checked}
    assert by_name["wrong_reference"].limits == ("at beta 0.1, TRL's default; --beta gives the run's own",)
    # A reward of 0.1 at step 1 is 1 nat at beta 0.1 and 0.1 nats at beta 1.
    assert "wrong_reference" in {one.finding.detector for one in examine(log_of(pairs)).diagnoses}
    assert "wrong_reference" not in {one.finding.detector for one in examine(log_of(pairs), beta=1.0).diagnoses}


def test_rows_of_several_steps_are_said():
    rows = [{"step": 10 * step, "loss": 1.0} for step in range(1, 12)]
    (note,) = examine(log_of(rows, of_transformers=True)).notes
    assert note.startswith("a row every 10 steps")
    assert note.endswith("(logging_steps=1 shows it)")


def test_a_score_is_what_the_equation_says():
    rate = Estimate(0.0, 0.0, 0.021, 180, "wilson")
    evidence = Evidence(2 / 3, 0.5, 0.5, 1 - 0.021, rate)
    assert evidence.score == pytest.approx(2 / 3 * 0.979 * 0.5)
    assert Evidence(1.0, None, 0.25, 0.5, None).score == pytest.approx(0.125)


def test_findings_are_ranked_by_evidence_and_their_parts_are_counted_by_hand():
    rows = [
        {"step": step, "loss": 2.0 if step != 20 else 9.0, "grad_norm": 300.0 if step > 10 else 1.0}
        for step in range(1, 31)
    ]
    norm, spike = examine(log_of(rows)).diagnoses
    assert (norm.finding.detector, spike.finding.detector) == ("gradient_norm", "loss_spike")
    # The median of three rows is above 100 from step 12 on, to the end.
    assert (norm.first, norm.last, norm.rows, norm.rows_since, norm.lasts) == (12, 30, 19, 19, True)
    assert norm.evidence.excess == pytest.approx(200 / 300)
    assert (spike.first, spike.last, spike.rows, spike.rows_since, spike.lasts) == (20, 20, 1, 11, False)
    # 9 against twice the median 2 of the steps before: 5/(5 + 4).
    assert spike.evidence.excess == pytest.approx(5 / 9)
    assert spike.evidence.lasting == pytest.approx(1 / 11)
    assert norm.evidence.score > spike.evidence.score
    assert norm.severity == spike.severity == "damaged"


def test_nan_and_an_exact_zero_are_void_and_over_by_as_much_as_can_be():
    rows = [{"step": step, "loss": 1.0 if step < 5 else math.nan, "grad_norm": 0.0} for step in range(1, 9)]
    found = {one.finding.detector: one for one in examine(log_of(rows)).diagnoses}
    assert found["loss_spike"].severity == found["gradient_norm"].severity == "void"
    assert found["loss_spike"].evidence.excess == found["gradient_norm"].evidence.excess == 1.0
    assert found["loss_spike"].finding.value is None


def test_a_value_is_held_against_its_own_scale():
    falling = DETECTORS["chosen_logprob_falling"]()
    found = Finding("chosen_logprob_falling", 5, "rewards/chosen", -0.3, 1.0, "", "", "dpo.beta")
    # −(−0.3)/0.1 = 3 nats against 1: 2/(2 + 1).
    assert excess(falling, found, (), 0) == pytest.approx(2 / 3)
    late = Finding("chosen_logprob_falling", 5, "logps/chosen", -42.0, 1.0, "", "", "dpo.beta")
    assert excess(falling, late, (), 0) is None
    below = Finding("entropy_collapse", 5, "entropy", 0.004, 0.01, "", "", "x")
    assert excess(DETECTORS["entropy_collapse"](), below, (), 0) == pytest.approx(0.006 / 0.016)
    shorter = Finding("reward_length_correlation", 5, "reward_length_correlation", -0.75, 0.5, "", "", "x")
    assert excess(DETECTORS["reward_length_correlation"](), shorter, (), 0) == pytest.approx(1 / 3)


def test_the_worst_of_several_findings_is_shown():
    spike = DETECTORS["loss_spike"]()
    losses = [3.0, 5.0, None, 9.0]
    found = [Finding("loss_spike", step, "loss", value, 6.0, "", "", "x") for step, value in enumerate(losses)]
    assert worst(spike, found).step == 2
    assert worst(spike, [one for one in found if one.value is not None]).step == 3


def test_the_false_alarm_rate_counts_the_clean_runs_of_a_study_once():
    rate = false_alarm("zero_variance_groups")  # two labs, one study
    assert rate is not None
    assert rate.n == 180
    assert false_alarm("no_such_detector") is None


def test_a_run_of_trimpots_is_not_told_settings_of_trl():
    rows = [{"step": step, "grad_norm": 300.0} for step in range(1, 6)]
    (ours,) = examine(log_of(rows, kind=module.TRIMPOT)).diagnoses
    (theirs,) = examine(log_of(rows)).diagnoses
    assert ours.in_trl == ()
    assert theirs.in_trl[0] == "SFTConfig.learning_rate"


def test_the_text_has_curve_knob_mend_card_and_runbook():
    rows = [{"step": step, "train/loss": 9.0 if step == 20 else 2.0} for step in range(1, 31)]
    found = examine(log_of(rows))
    text = "\n".join(f"{head} {rest}" for head, rest in lines(found))
    for part in (
        "loss from train/loss",
        "1. loss_spike: loss 9 is 4.5 times the median 2",
        "train/loss 2 to 9",
        "evidence 0.",
        "false alarms 0.0% of 180 clean runs [0.0%, 2.1%]",
        "knob *.learning_rate",
        "in TRL SFTConfig.learning_rate",
        "trimpot card optimizer.learning_rate; runbook docs/runbooks/loss-spike.md",
        "checked: nothing_supervised",
    ):
        assert part in text
    curve = next(rest for _, rest in lines(found) if "█" in rest)
    mark = lines(found)[[rest for _, rest in lines(found)].index(curve) + 1][1]
    assert curve.index("█") == mark.index("^")
