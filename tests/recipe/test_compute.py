"""Operations of stages by hand: weights times tokens times two, four more for a backward pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from trimpot.core.rows import Message, PromptRow
from trimpot.data.template import ChatTemplate
from trimpot.models.quantised import quantise
from trimpot.models.reward import from_policy
from trimpot.models.tiny import tiny
from trimpot.recipe.compute import (
    Weights,
    flops_of_stage,
    judge_weights,
    sampling_flops,
    stage_flops,
    training_flops,
    weights_of,
)
from trimpot.recipe.read import build_recipe
from trimpot.recipe.run import run_recipe
from trimpot.rollout.engine import Completion, generate
from trimpot.rollout.groups import Group, judged_tokens
from trimpot.rollout.rewards import RewardModelJudge, Rewards
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.settings import RolloutSettings, Sampling
from trimpot.rollout.source import RolloutSource
from trimpot.rollout.trajectories import Trajectory, Turn
from trimpot.store.run_folder import RunFolder


def test_by_hand():
    policy = tiny("0.1m")
    size = weights_of(policy.model)
    assert training_flops(policy, 10) == 6 * size * 10
    assert sampling_flops(policy, 10) == 2 * size * 10
    # 5 tokens trained by policy and critic (200 weights), scored by a reference (100); 7 tokens sampled by the policy
    metrics = [{"num_pass_tokens": 5.0, "num_rollout_tokens": 7.0}, {"num_pass_tokens": None}]
    assert stage_flops(Weights(200, 100, 100), metrics) == 6 * 200 * 5 + 2 * 100 * 5 + 2 * 100 * 7
    # 8 tokens read by two reward models of 150 weights each
    metrics.append({"num_judged_tokens": 8.0})
    assert stage_flops(Weights(200, 100, 100, 300), metrics) == 6 * 200 * 5 + 2 * 100 * 5 + 2 * 100 * 7 + 2 * 300 * 8


def told(length: int, reward: float | None = None, error: str | None = None) -> Trajectory:
    """An answer of so many tokens to a prompt of three."""
    completion = Completion(list(range(length)), [0.0] * length, [0.0] * length, True)
    return Trajectory((1, 2, 3), [Turn((1, 2, 3), completion)], reward, error)


def test_what_reward_models_read_by_hand() -> None:
    row = PromptRow((Message("user", "q"),), "a")
    groups = [
        # 3 tokens of the prompt, once, and answers of 4 and 5; the environment scored one of 9 and failed on one of 2.
        Group(row, (told(4), told(5), told(9, reward=1.0), told(2, error="failed")), (), (), ()),
        # Nothing to ask about.
        Group(row, (told(7, reward=0.0),), (), (), ()),
    ]
    assert judged_tokens(groups) == 3 + 4 + 5


def test_greedy_completions_and_reward_models_count() -> None:
    policy, rows = tiny("0.1m"), [PromptRow((Message("user", text),), "a") for text in ("q", "longer")]
    (stage,) = build_recipe(
        {"stages": [{"policy_gradient": {"data": "x", "objective": "remax", "group": 2}}]}, "x"
    ).stages
    template = ChatTemplate(policy.tokenizer)
    judge = RewardModelJudge([from_policy(policy), from_policy(policy)], "mean", 0.0)
    source = RolloutSource(
        policy, rows, Sampling(template, SamplingSettings(1.0, 4), 2), stage.get(RolloutSettings),
        stage.objective, Rewards({"model": 1.0}, {"model": judge}, 1.0), {}, 0,
    )  # fmt: skip
    draw = source.draw(1, {})
    prompts = [template.prompt(row) for row in rows]
    likely = generate(policy, prompts, 1, SamplingSettings(0.0, 4), 0)
    greedy = sum(map(len, prompts)) + sum(len(group[0].ids) for group in likely)
    sampled = sum(sample.tokens for sample in draw.samples)
    assert draw.stats["num_rollout_tokens"].value == draw.stats["num_judged_tokens"].value == sampled + greedy
    assert judge_weights([judge]) == 2 * weights_of(judge.models[0].model)


def test_a_stage_counts_the_reward_models_that_score_it(tmp_path: Path) -> None:
    """Two reward models of W + H weights (a head of H), no reference: 6·W a token trained, 2·W a token sampled."""
    lines = {
        "pairs": [{"prompt": f"say {n}", "chosen": "ab", "rejected": "c" * (n + 1)} for n in range(4)],
        "prompts": [{"prompt": f"say {n}", "answer": "ab"} for n in range(4)],
    }
    for name, rows in lines.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quick = {"steps": 2, "batch": 2, "checkpoint_every": 0}
    reward = {"reward": {"data": f"{tmp_path}/pairs.jsonl", "held_out": 0.0, **quick}}
    scored = {
        "data": f"{tmp_path}/prompts.jsonl", "rewards": {"stage:reward+stage:reward-2": 1.0}, "max_tokens": 4, **quick,
    }  # fmt: skip
    gradient = {"policy_gradient": {"objective": "remax", "group": 2, **scored}}
    online = {"preference": {"online": True, "objective": "simpo", "samples": 3, **scored}}
    tree = {"model": "tiny-0.1m", "stages": [reward, reward, gradient, online]}
    run = run_recipe(build_recipe(yaml.safe_load(yaml.safe_dump(tree)), "recipe"), tmp_path / "run")
    size, hidden = weights_of(tiny("0.1m").model), tiny("0.1m").model.config.hidden_size
    for name in ("policy_gradient", "preference"):
        stage = run.stage(name)
        total = {
            key: sum(line[key] for line in stage.metrics())
            for key in ("num_pass_tokens", "num_rollout_tokens", "num_judged_tokens")
        }
        assert total["num_judged_tokens"] == total["num_rollout_tokens"] > 0
        expected = 6 * size * total["num_pass_tokens"] + 2 * size * total["num_rollout_tokens"]
        assert stage.record()["flops"] == expected + 2 * 2 * (size + hidden) * total["num_judged_tokens"]


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


def test_rows_made_of_rows_cost_both(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    for name, flops, settings in (
        ("first", 3.0, {"prompts": "file.jsonl"}),
        ("second", 5.0, {"prompts": "stage:first"}),
        ("sft", 7.0, {"data": "stage:second"}),
    ):
        folder = run.stage(name)
        folder.path.mkdir(exist_ok=True)
        folder.write_record({"kind": name, "index": 0, "status": "done", "flops": flops, "settings": settings})
    assert flops_of_stage(run, "sft") == 15.0
