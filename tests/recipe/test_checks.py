"""Misuse that a stage in the middle of a run would stumble over is named before anything trains or is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from trimpot.core.errors import UsageError
from trimpot.models import reward
from trimpot.models.export import export
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.recipe.checks import check_recipe
from trimpot.recipe.read import Recipe, build_recipe
from trimpot.recipe.run import run_recipe
from trimpot.store.run_folder import RunFolder

QUICK = {"steps": 2, "batch": 2, "checkpoint_every": 0}
WORDS = ["ab", "ba", "aab", "abb", "bab", "bba"]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of every kind in the working folder."""
    monkeypatch.chdir(tmp_path)
    files = {
        "chat": [{"prompt": f"say {n}", "completion": word} for n, word in enumerate(WORDS)],
        "pairs": [{"prompt": f"say {n}", "chosen": word, "rejected": "x" * (n + 1)} for n, word in enumerate(WORDS)],
        "one_pair": [{"prompt": "say", "chosen": "a", "rejected": "b"}],
        "steps": [{"prompt": f"q{n}", "completions": ["a", "b"], "labels": [True, False]} for n in range(4)],
        "prompts": [{"prompt": f"say {n}", "answer": word} for n, word in enumerate(WORDS)],
        "unanswered": [{"prompt": "say"}],
        "long": [{"prompt": "x" * 3000, "answer": "a"}],
        "long_chat": [{"prompt": "x" * 3000, "completion": "a"}],
    }
    for name, lines in files.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path("rewards.py").write_text("def score(output, row):\n    return len(set(output)) / 8\n")


def other_vocabulary() -> Policy:
    policy = tiny("0.1m")
    policy.tokenizer.add_tokens(["<other>"])
    policy.model.resize_token_embeddings(len(policy.tokenizer))
    return policy


def more_outputs() -> Policy:
    policy = tiny("0.1m")
    policy.model.resize_token_embeddings(len(policy.tokenizer) + 5)
    return policy


def recipe_of(stages: list, **top: object) -> Recipe:
    tree = {"model": "tiny-0.1m", **top, "stages": stages}
    return build_recipe(yaml.safe_load(yaml.safe_dump(tree)), "recipe")


def sft(**given: object) -> dict:
    return {"sft": {"data": "chat.jsonl", **QUICK, **given}}


def reward_stage(**given: object) -> dict:
    return {"reward": {"data": "pairs.jsonl", **QUICK, **given}}


def gradient(**given: object) -> dict:
    common = {"data": "prompts.jsonl", "rewards": {"rewards.py:score": 1.0}, "group": 2, "max_tokens": 4}
    return {"policy_gradient": {**common, **QUICK, **given}}


def distill(**given: object) -> dict:
    return {"distill": {"data": "chat.jsonl", "max_tokens": 4, **QUICK, **given}}


JUDGED = {"suite": "prompts.jsonl", "items": 2, "max_tokens": 4, "best_of": 2}
PREFIX = {"trainable": "prefix", "virtual_tokens": 3}
CASES = {
    "more layers than there are": (
        [sft(), reward_stage(trainable="last_k", last_layers=3)],
        r"reward\.last_layers: 3 layers asked for, the model has 2",
    ),
    "targets that match nothing": (
        [sft(), {"preference": {"data": "pairs.jsonl", "trainable": "lora", "lora_targets": "query", **QUICK}}],
        r"preference\.lora_targets: no linear module is called query",
    ),
    "reward model of virtual tokens": ([sft(**PREFIX), reward_stage()], "reward model: the model has 3 virtual tokens"),
    "reward model that starts from virtual tokens": (
        [sft(name="tuned", **PREFIX), sft(name="plain", start="base"), reward_stage(start="tuned")],
        "reward model: the model has 3 virtual tokens",
    ),
    "judge of virtual tokens": (
        [reward_stage(), sft(**PREFIX), gradient(rewards={"stage:reward": 1.0})],
        "policy_gradient: reward model: the model has 3 virtual tokens",
    ),
    "judge of an evaluation of virtual tokens": (
        [reward_stage(), sft(**PREFIX), {"evaluate": {**JUDGED, "judge": "stage:reward"}}],
        "evaluate: reward model: the model has 3 virtual tokens",
    ),
    "critic of virtual tokens": (
        [sft(), gradient(objective="ppo", **PREFIX)],
        "critic: the model has 3 virtual tokens",
    ),
    "student of virtual tokens": (
        [sft(**PREFIX), distill(teacher="tiny-0.1m")],
        "teacher: the model has 3 virtual tokens",
    ),
    "teacher of virtual tokens": (
        [sft(name="tuned", **PREFIX), distill(start="base", teacher="stage:tuned")],
        "student: the model has 3 virtual tokens",
    ),
    "other virtual tokens": (
        [sft(**PREFIX), sft(trainable="prompt", virtual_tokens=3)],
        r"sft-2\.trainable: the model already has 3 virtual tokens of prefix tuning",
    ),
    "missing part of an ensemble": (
        [reward_stage(), gradient(rewards={"stage:reward+nowhere/model": 1.0})],
        r"policy_gradient\.rewards: 'nowhere/model' is neither a stage nor a folder",
    ),
    "no such reward model": (
        [sft(), gradient(rewards={"nowhere/model": 1.0})],
        r"policy_gradient\.rewards: 'nowhere/model' is no verifier",
    ),
    "combined without an ensemble": (
        [reward_stage(), gradient(rewards={"stage:reward": 1.0}, combine="worst")],
        r"policy_gradient\.combine: worst has no ensemble",
    ),
    "no such critic": (
        [sft(), gradient(objective="ppo", critic="nowhere")],
        r"policy_gradient\.critic: 'nowhere' is neither",
    ),
    "no such teacher": ([sft(), distill(teacher="./nowhere")], r"nowhere: is not a model folder"),
    "no such teacher of rows": (
        [sft(), {"data": {"prompts": "prompts.jsonl", "method": "distillation", "teacher": "./nowhere"}}],
        r"nowhere: is not a model folder",
    ),
    "a stop text that is empty": ([sft(), gradient(stop=[""])], r"policy_gradient\.stop: \('',\) is no list of texts"),
    "no such environment": (
        [sft(), gradient(environment="rety", turns=2)],
        r"policy_gradient\.environment: 'rety' is unknown. Did you mean 'retry'",
    ),
    "prompts without an answer": (
        [sft(), {"data": {"prompts": "unanswered.jsonl"}}],
        r"unanswered\.jsonl:1: has no answer",
    ),
    "prompts beyond the context": (
        [sft(), {"data": {"prompts": "long.jsonl"}}],
        r"long\.jsonl:1: 30\d\d prompt \+ 24 new tokens exceed the model's context of 2048",
    ),
    "rows beyond the context": (
        [sft(), sft(data="long_chat.jsonl", max_length=9000)],
        r"long_chat\.jsonl:1: 30\d\d tokens exceed the model's context of 2048",
    ),
    "all rows held out": (
        [sft(), reward_stage(data="one_pair.jsonl", held_out=0.9)],
        r"reward\.held_out: all 1 rows are held out",
    ),
    "a stage named as a file": (
        [{"data": {"name": "made", "prompts": "prompts.jsonl"}}, reward_stage(data="made")],
        r"reward\.data: 'made' is no file or model here, but a stage. Write stage:made",
    ),
    "a stage named as a model": (
        [sft(name="big"), distill(start="base", teacher="big")],
        r"distill\.teacher: 'big' is no file or model here, but a stage. Write stage:big",
    ),
    "rows of another kind": (
        [{"data": {"prompts": "prompts.jsonl"}}, sft(data="stage:data")],
        "no earlier stage 'data' can serve here. It reads chat or text rows. Put a data stage with method: rejection",
    ),
}  # fmt: skip


def refused(stages: list, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        run_recipe(recipe_of(stages), Path("run"))
    assert "\n" not in str(caught.value)
    assert not Path("run").exists()


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("case", CASES)
def test_misuse_is_named_before_anything_trains(case: str) -> None:
    refused(*CASES[case])


@pytest.mark.usefixtures("rows")
def test_models_of_another_vocabulary_are_named_before_anything_trains() -> None:
    export(other_vocabulary(), Path("teacher"))
    export(reward.from_policy(other_vocabulary()), Path("judge"))
    export(more_outputs(), Path("padded"))
    words = r"has a vocabulary of 260 tokens, the \w+ 259"
    refused([sft(), distill(teacher="teacher")], rf"distill\.teacher: {words}")
    refused([sft(), gradient(objective="ppo", critic="judge")], words)
    refused([sft(), gradient(rewards={"judge": 1.0})], words)
    refused([sft(), distill(teacher="padded")], r"distill\.teacher: gives 264 logits, the student 259")


@pytest.mark.usefixtures("rows")
def test_a_process_reward_model_judges_no_answers_but_may_become_a_critic() -> None:
    trained = [reward_stage(data="steps.jsonl", objective="process_reward"), reward_stage()]
    run = run_recipe(recipe_of(trained), Path("models"))
    steps, answers = (str(run.stage(name).model_folder) for name in ("reward", "reward-2"))
    words = "is a process reward model: it scores steps, not answers"
    refused([sft(), {"evaluate": {**JUDGED, "judge": steps}}], words)
    refused([sft(), gradient(rewards={f"{answers}+{steps}": 1.0})], words)
    stages = [gradient(objective="ppo", critic=steps), {"evaluate": {**JUDGED, "judge": answers}}]
    done = run_recipe(recipe_of(stages), Path("run"))
    assert [stage.record()["status"] for stage in done.stages()] == ["done", "done"]


@pytest.mark.usefixtures("rows")
def test_a_resumed_run_is_not_refused_for_what_came_after(run_until: Callable[..., None]) -> None:
    """The reward model was trained before there were virtual tokens, and a later stage starts from the base."""
    stages = [reward_stage(), sft(**PREFIX), gradient(), sft(name="plain", start="base"), reward_stage(name="again")]
    run_until(recipe_of(stages), Path("run"), "policy_gradient", 0)
    run_recipe(recipe_of(stages), Path("run"), resume=True)
    assert all(stage.record()["status"] == "done" for stage in RunFolder.open(Path("run")).stages())


@pytest.mark.usefixtures("rows")
def test_rows_are_tokenised_with_the_virtual_tokens_that_will_stand_before_them() -> None:
    policy = tiny("0.1m")
    room = int(check_recipe(recipe_of([sft()]), policy).tokens["sft"]) + 2
    check_recipe(recipe_of([sft(max_length=room)]), policy)
    with pytest.raises(UsageError, match=r"chat\.jsonl:\d.*max_length"):
        check_recipe(recipe_of([sft(name="tuned", trainable="prefix"), sft(max_length=room)]), policy)


@pytest.mark.usefixtures("rows")
def test_checks_leave_the_model_as_it_is() -> None:
    policy = tiny("0.1m")
    before = policy.weights_hash()
    check_recipe(recipe_of([sft(trainable="lora", quantise="nf4"), sft(trainable="last_k"), sft(**PREFIX)]), policy)
    assert policy.weights_hash() == before
    assert policy.adapters is None
    assert policy.virtual_ids == ()
