"""Operations of stages by hand: weights times tokens times two, four more for a backward pass."""

from __future__ import annotations

import pytest
import yaml

from trimpot.core.rows import Message, PromptRow
from trimpot.data.template import ChatTemplate
from trimpot.models.quantised import quantise
from trimpot.models.tiny import tiny
from trimpot.recipe.compute import Weights, sampling_flops, stage_flops, training_flops, weights_of
from trimpot.recipe.read import build_recipe
from trimpot.rollout.engine import SamplingSettings
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.settings import RolloutSettings, Sampling
from trimpot.rollout.source import RolloutSource


def test_by_hand():
    policy = tiny("0.1m")
    size = weights_of(policy.model)
    assert training_flops(policy, 10) == 6 * size * 10
    assert sampling_flops(policy, 10) == 2 * size * 10
    # 5 tokens trained by policy and critic (200 weights), scored by a reference (100); 7 tokens sampled by the policy
    metrics = [{"num_pass_tokens": 5.0, "num_rollout_tokens": 7.0}, {"num_pass_tokens": None}]
    assert stage_flops(Weights(200, 100, 100), metrics) == 6 * 200 * 5 + 2 * 100 * 5 + 2 * 100 * 7


def test_weights_in_four_bits_count_one_by_one():
    policy = tiny("0.1m")
    size = weights_of(policy.model)
    quantise(policy.model)
    assert sum(value.numel() for value in policy.model.parameters()) < size
    assert weights_of(policy.model) == size


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ("{objective: grpo}", []),
        ("{objective: grpo, kl: 0.04}", ["reference_logprob_N"]),
        ("{objective: grpo, epochs: 2}", ["old_logprob_N"]),
        ("{objective: grpo, importance: mask}", ["old_logprob_N"]),
        ("{objective: ppo, epochs: 2}", ["old_logprob_N", "reference_logprob_N", "value_N"]),
        ("{objective: ppo, kl: 0}", ["value_N"]),
    ],
)
def test_what_a_draw_is_scored_by(settings, names):
    given = {"data": "x", **yaml.safe_load(settings)}
    (stage,) = build_recipe({"stages": [{"policy_gradient": given}]}, "recipe").stages
    policy = tiny("0.1m")
    sampling = Sampling(ChatTemplate(policy.tokenizer), stage.get(SamplingSettings), 1)
    scorers = dict.fromkeys(("old_logprob_N", "reference_logprob_N", "value_N"), lambda batch: None)
    rows = [PromptRow((Message("user", "q"),), "a")]
    source = RolloutSource(
        policy, rows, sampling, stage.get(RolloutSettings), stage.objective, Rewards(None, {}, 1.0), scorers, 0
    )
    assert sorted(source.scorers) == names
