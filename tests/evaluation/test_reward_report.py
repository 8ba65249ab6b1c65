"""The report on a reward model: its numbers by hand, and what it says of models that learned nothing but length."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from trimpot.core.rows import Message, PreferencePair, StepsRow
from trimpot.core.stats import Estimate
from trimpot.core.tensors import Batch
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.reward_report import RewardReport, StepReport, beats, reward_report
from trimpot.models import reward
from trimpot.models.reward import RewardModel
from trimpot.models.tiny import tiny

POLICY = tiny()
TEMPLATE = ChatTemplate(POLICY.tokenizer)


def pair(question: str, chosen: str, rejected: str) -> PreferencePair:
    prompt, sides = (Message("user", question),), (chosen, rejected)
    first, second = ((Message("assistant", text),) for text in sides)
    return PreferencePair(prompt, first, second)


# Right: the answer repeats the question. The longer one is chosen in the even pairs.
PAIRS = [pair(f"q{n}", f"q{n}" + "+" * (n % 2 == 0) * 3, "x" * 3) for n in range(12)]


def judge(score: Callable[[str, str], float], monkeypatch: pytest.MonkeyPatch) -> RewardModel:
    """A reward model that scores by a rule on prompt and answer, in place of its network."""
    model = reward.from_policy(POLICY)

    def rewards(batch: Batch) -> torch.Tensor:
        values = []
        for document in batch.documents:
            prompt = POLICY.tokenizer.decode(batch.ids_T[document.start : document.prefix_stop])
            for low, high in document.branches:
                answer = POLICY.tokenizer.decode(batch.ids_T[low:high]).split("<|im_end|>")[0]
                values.append(score(prompt, answer))
        return torch.tensor(values)

    monkeypatch.setattr(model, "rewards", rewards)
    return model


def repeats(prompt: str, answer: str) -> float:
    return 2.0 if answer.rstrip("+") in prompt else 0.0


def length(prompt: str, answer: str) -> float:
    return float(len(answer))


def test_a_model_that_reads_the_prompt(monkeypatch):
    report = reward_report(judge(repeats, monkeypatch), PAIRS, TEMPLATE)
    assert isinstance(report, RewardReport)
    assert report.pairs == 12
    assert report.accuracy.value == 1.0
    assert report.accuracy.low == pytest.approx(0.757, abs=1e-3)  # Wilson, 12 of 12
    assert report.margin.value == 2.0
    probability = 1 / (1 + torch.tensor(-2.0).double().exp().item())
    assert report.calibration_error.value == pytest.approx(1 - probability, abs=1e-6)
    assert report.brier.value == pytest.approx((1 - probability) ** 2, abs=1e-6)
    # chosen "q0+++" (and end) against "xxx": longer by 2; "q1" shorter by 1 — for q10 and q11 by 3 and 0.
    assert report.baselines == {"longer wins": (6 + 0.5) / 12, "prompt ignored": 0.5, "random": 0.5}
    assert "beats longer wins, prompt ignored, random" in report.sentence()


def test_a_model_of_length_alone_does_not_beat_length(monkeypatch):
    report = reward_report(judge(length, monkeypatch), PAIRS, TEMPLATE)
    assert report.reward_length_correlation.value == pytest.approx(1.0)
    assert report.baselines["longer wins"] == report.accuracy.value == report.baselines["prompt ignored"]
    assert report.gains["longer wins"].value == 0.0
    assert "not shown to beat longer wins, prompt ignored, random" in report.sentence()


def test_an_untrained_model_has_ties_only():
    report = reward_report(reward.from_policy(POLICY), PAIRS, TEMPLATE)
    assert report.accuracy.value == 0.5
    assert report.calibration_error.value == 0.0
    assert report.brier.value == 0.25
    assert report.reward_length_correlation.value is None
    assert "not shown to beat" in report.sentence()


def test_pairs_of_one_prompt_are_one_unit(monkeypatch):
    model = judge(repeats, monkeypatch)
    again = [*PAIRS, pair("q0", "q0", "yy")]
    report = reward_report(model, again, TEMPLATE)
    assert (report.pairs, report.accuracy.n) == (13, 12)
    assert report.accuracy.method == "paired t, clustered"


def test_the_order_of_the_rows_does_not_matter_and_the_report_is_json():
    model = reward.from_policy(POLICY)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.nn.init.normal_(model.model.score.weight)
    one, other = reward_report(model, PAIRS, TEMPLATE), reward_report(model, PAIRS[::-1], TEMPLATE)
    assert one.margin.value == pytest.approx(other.margin.value, abs=1e-6)
    assert one.accuracy == other.accuracy
    assert one.gains["prompt ignored"].value == pytest.approx(other.gains["prompt ignored"].value, abs=1e-12)
    assert json.loads(json.dumps(one.as_dict()))["accuracy"]["value"] == one.accuracy.value


def test_no_rows_have_no_numbers():
    report = reward_report(reward.from_policy(POLICY), [], TEMPLATE)
    assert (report.pairs, report.accuracy.value, report.calibration_noise) == (0, None, None)
    assert report.sentence() == "no held-out pairs"


def test_rows_of_another_kind_are_refused():
    steps = StepsRow((Message("user", "q"),), ("a",), (True,))
    with pytest.raises(ValueError, match="one kind only"):
        reward_report(reward.from_policy(POLICY), [*PAIRS, steps], TEMPLATE)


SOLUTIONS = [StepsRow((Message("user", f"q{n}"),), ("one", "two", "bad"), (True, True, False)) for n in range(8)] + [
    StepsRow((Message("user", "q"),), ("one", "two"), (True, True))
]


def step_judge(logits: Callable[[Batch], torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> RewardModel:
    model = reward.from_policy(POLICY)
    monkeypatch.setattr(model, "scores_of_steps", logits)
    return model


def test_steps_by_hand(monkeypatch):
    # Right on all right steps, and on all wrong ones but the first row's.
    def logits(batch: Batch) -> torch.Tensor:
        signs = 2 * batch.streams["label_N"] - 1
        if batch.branches_per_row and batch.row_ids[0] == SOLUTIONS[0].id:
            signs[2] = 1.0
        return signs

    report = reward_report(step_judge(logits, monkeypatch), SOLUTIONS, TEMPLATE)
    assert isinstance(report, StepReport)
    assert (report.solutions, report.steps, report.accuracy.n) == (9, 26, 9)
    assert report.accuracy.value == pytest.approx(25 / 26)
    assert report.balanced_accuracy == pytest.approx((1.0 + 7 / 8) / 2)
    assert report.baselines == {"always the same": 18 / 26}
    probability = 1 / (1 + torch.tensor(-1.0).double().exp().item())
    # Two bins: 19 steps said σ(1), 18 of them right; 7 steps said σ(−1), none right.
    expected = 19 / 26 * abs(18 / 19 - probability) + 7 / 26 * (1 - probability)
    assert report.calibration_error.value == pytest.approx(expected, abs=1e-6)
    assert report.brier.value == pytest.approx((25 * (1 - probability) ** 2 + probability**2) / 26, abs=1e-6)
    assert "beats always the same" in report.sentence()


def test_always_right_does_not_beat_the_commoner_label(monkeypatch):
    model = step_judge(lambda batch: torch.ones(len(batch.target_ids_N)), monkeypatch)
    report = reward_report(model, SOLUTIONS, TEMPLATE)
    assert (report.accuracy.value, report.balanced_accuracy) == (pytest.approx(18 / 26), 0.5)
    assert "not shown to beat always the same" in report.sentence()
    json.dumps(report.as_dict())


def test_a_real_process_reward_model_is_reported():
    report = reward_report(reward.from_policy(POLICY), SOLUTIONS, TEMPLATE)
    assert report.accuracy.value == pytest.approx(8 / 26)  # a logit of 0 is judged wrong
    assert report.brier.value == 0.25


def test_gains_without_any_spread_need_six_units():
    assert not beats(Estimate(1.0, 1.0, 1.0, 5, "paired t"))
    assert beats(Estimate(1.0, 1.0, 1.0, 6, "paired t"))
    assert beats(Estimate(0.5, 0.1, 0.9, 4, "paired t"))
    assert not beats(Estimate(0.5, 0.0, 1.0, 4, "paired t"))
    assert not beats(Estimate(0.5, None, None, 1, "paired t"))
