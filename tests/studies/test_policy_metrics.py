"""KL, accuracy and lengths of own samples, against a plain forward pass and by hand; pairs against DPO's own words."""

import copy
import math

import pytest
import torch

from trimpot.core.rows import Message, PreferencePair, PromptRow
from trimpot.models.tiny import tiny
from trimpot.objectives.preference.dpo import DPO
from trimpot.rollout.engine import Completion, generate
from trimpot.rollout.sampling import SamplingSettings
from trimpot.studies import policy_metrics
from trimpot.studies.own import UNJUDGED
from trimpot.studies.policy_metrics import on_own_samples, on_pairs
from trimpot.studies.subject import Subject, subject_of, template_of

ROWS = [PromptRow((Message("user", word),), word[::-1]) for word in ("abcd", "efgh")]


class Fixed:
    """A subject whose completions and scores are given."""

    def __init__(self, groups, scores):
        self.groups, self.scores = groups, scores

    def sampled(self, policy, rows, samples, seed):
        return self.groups, self.scores


def ends(*lengths):
    return [Completion(ids=list(range(65, 65 + length)), finished=True) for length in lengths]


@pytest.fixture(scope="module")
def policies():
    return tiny("0.1m", seed=0), tiny("0.1m", seed=1)


def logprob(policy, prompt, ids):
    """Σ log p of ``ids`` after the prompt, by one whole forward pass."""
    plain = copy.deepcopy(policy.model)
    plain.set_attn_implementation("sdpa")
    logits = plain(torch.tensor([[*prompt, *ids]])).logits[0].double().log_softmax(-1)
    return float(sum(logits[len(prompt) + place - 1, token] for place, token in enumerate(ids)))


def test_kl_is_the_mean_difference_of_sequence_log_probs(policies, monkeypatch):
    policy, reference = policies
    groups = [ends(3, 5), ends(2, 4)]
    prompts = [template_of(policy).prompt(row) for row in ROWS]
    with torch.no_grad():
        each = [
            logprob(policy, prompt, one.ids) - logprob(reference, prompt, one.ids)
            for prompt, group in zip(prompts, groups, strict=True)
            for one in group
        ]
    subject = Fixed(groups, [[1.0, 0.0], [0.0, 0.0]])
    found = on_own_samples(policy, reference, subject, ROWS, 2, 0)
    assert found["kl"] == pytest.approx(sum(each) / 4, abs=1e-4)
    # In parts that each hold one completion the numbers are the same.
    monkeypatch.setattr(policy_metrics, "TOKENS", len(prompts[0]) + 5)
    assert on_own_samples(policy, reference, subject, ROWS, 2, 0)["kl"] == pytest.approx(found["kl"], abs=1e-4)


def test_no_part_is_larger_than_it_may_be():
    parts = list(policy_metrics._parts(ends(3, 5, 2, 9, 1), 8))
    assert [[len(one.ids) for one in part] for part in parts] == [[3, 5], [2], [9], [1]]
    assert list(policy_metrics._parts([], 8)) == []


def test_accuracy_and_lengths_by_hand(policies):
    policy, reference = policies
    found = on_own_samples(policy, reference, Fixed([ends(3, 5), ends(2, 4)], [[1.0, 0.0], [0.0, 1.0]]), ROWS, 2, 0)
    assert found["accuracy"] == 0.5
    assert found["length"] == 3.5
    assert found["length/right"] == 3.5
    assert found["length/wrong"] == 3.5
    found = on_own_samples(policy, reference, Fixed([ends(3, 5), ends(2, 4)], [[1.0, 1.0], [0.0, 0.0]]), ROWS, 2, 0)
    assert (found["length/right"], found["length/wrong"]) == (4.0, 3.0)


def test_what_is_not_defined_is_left_out(policies):
    policy, reference = policies
    groups = [ends(3, 5), ends(2, 4)]
    right = on_own_samples(policy, reference, Fixed(groups, [[1.0, 1.0]] * 2), ROWS, 2, 0)
    assert "length/wrong" not in right
    unjudged = on_own_samples(policy, reference, Fixed(groups, [[math.nan] * 2] * 2), ROWS, 2, 0)
    assert set(unjudged) == {"kl", "length"}
    part = on_own_samples(policy, reference, Fixed(groups, [[math.nan, 1.0], [0.0, 1.0]]), ROWS, 2, 0)
    assert part["accuracy"] == pytest.approx(2 / 3)


def test_a_policy_does_not_differ_from_itself(policies, tmp_path):
    settings = {"subject": "own", "model": "tiny-0.1m", "data": "embedded:reasoning-easy", "held_out": 4}
    subject = subject_of(settings, 0, tmp_path)
    assert isinstance(subject, Subject)
    found = on_own_samples(policies[0], policies[0], subject, subject.held_out(), 2, 0)
    assert found["kl"] == 0.0
    assert 0 <= found["accuracy"] <= 1
    assert 1 <= found["length"] <= 24


def test_the_kl_of_samples_agrees_with_the_samplers_own_log_probs(policies, tmp_path):
    """With the reference's log-probs subtracted from the sampler's the estimate is the same."""
    policy, reference = policies
    settings = SamplingSettings(max_tokens=8)
    prompts = [template_of(policy).prompt(row) for row in ROWS]
    groups = generate(policy, prompts, 3, settings, 0)
    with torch.no_grad():
        each = [
            sum(one.logprobs) - logprob(reference, prompt, one.ids)
            for prompt, group in zip(prompts, groups, strict=True)
            for one in group
        ]
    found = on_own_samples(policy, reference, Fixed(groups, [[0.0] * 3] * 2), ROWS, 3, 0)
    assert found["kl"] == pytest.approx(sum(each) / 6, abs=1e-3)


def test_pairs_give_the_log_ratio_of_both_answers(policies, tmp_path):
    policy, reference = policies
    rows = [
        PreferencePair((Message("user", word),), (Message("assistant", word[::-1]),), (Message("assistant", "xx"),))
        for word in ("abcd", "efgh")
    ]
    subject = subject_of({"subject": "own", "model": "tiny-0.1m", "data": "embedded:reasoning-easy"}, 0, tmp_path)
    samples = subject.samples(rows, policy)
    with torch.no_grad():
        ratios = [
            [logprob(policy, one.prefix, side.ids) - logprob(reference, one.prefix, side.ids) for side in one.branches]
            for one in samples
        ]
    found = on_pairs(policy, reference, samples, DPO(beta=0.5))
    assert found["logratio/chosen"] == pytest.approx(sum(one[0] for one in ratios) / 2, abs=1e-4)
    assert found["logratio/rejected"] == pytest.approx(sum(one[1] for one in ratios) / 2, abs=1e-4)
    margins = [0.5 * (chosen - rejected) for chosen, rejected in ratios]
    assert found["rewards/margins"] == pytest.approx(sum(margins) / 2, abs=1e-4)
    assert found["rewards/accuracies"] == sum(margin > 0 for margin in margins) / 2
    assert on_pairs(policy, reference, (), DPO()) == {}


def test_prompts_without_a_verifier_still_have_a_kl(policies, tmp_path):
    policy, reference = policies
    subject = subject_of({"subject": "own", "model": "tiny-0.1m", "data": "embedded:reasoning-easy"}, 0, tmp_path)
    rows = [PromptRow(row.prompt, verifier=UNJUDGED) for row in ROWS]
    assert set(on_own_samples(policy, reference, subject, rows, 2, 0)) == {"kl", "length"}
