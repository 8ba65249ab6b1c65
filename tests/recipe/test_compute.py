"""Operations of stages by hand: weights times tokens times two, four more for a backward pass."""

from __future__ import annotations

import pytest
import yaml

from trimpot.models.tiny import tiny
from trimpot.recipe.compute import Weights, sampling_flops, stage_flops, training_flops, weights_of
from trimpot.recipe.jobs import source_scores
from trimpot.recipe.read import build_recipe


def test_by_hand():
    policy = tiny("0.1m")
    size = weights_of(policy.model)
    assert training_flops(policy, 10) == 6 * size * 10
    assert sampling_flops(policy, 10) == 2 * size * 10
    # 5 tokens trained by policy and critic (200 weights), scored by a reference (100); 7 tokens sampled by the policy
    metrics = [{"num_pass_tokens": 5.0, "num_sampled_tokens": 7.0}, {"num_pass_tokens": None}]
    assert stage_flops(Weights(200, 100, 100), metrics) == 6 * 200 * 5 + 2 * 100 * 5 + 2 * 100 * 7


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
    assert source_scores(stage) == names
