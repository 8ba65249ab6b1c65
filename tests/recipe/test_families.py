"""Every family of post-training through a recipe on a tiny model: what it leaves, what it refuses, what it compares."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from trimpot.core.errors import UsageError
from trimpot.models.load import load
from trimpot.recipe.context import read_rows
from trimpot.recipe.read import build_recipe
from trimpot.recipe.run import run_recipe
from trimpot.store.run_folder import RunFolder


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, str]:
    def write(name: str, lines: list) -> str:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(path)

    words = ["ab", "ba", "aab", "abb", "bab", "bba", "aabb", "abab"]
    (tmp_path / "rewards.py").write_text("def score(output, row):\n    return len(set(output)) / 8\n")
    return {
        "chat": write("chat", [{"prompt": f"say {n}", "completion": word} for n, word in enumerate(words)]),
        "text": write("text", [{"text": f"some text {n}"} for n in range(6)]),
        "pairs": write(
            "pairs", [{"prompt": f"say {n}", "chosen": w, "rejected": "c" * n + "x"} for n, w in enumerate(words)]
        ),
        "steps": write(
            "steps",
            [{"prompt": f"q{n}", "completions": ["a", "b"], "labels": [True, n % 2 == 0]} for n in range(8)],
        ),
        "prompts": write("prompts", [{"prompt": f"say {n}", "answer": word} for n, word in enumerate(words)]),
        "reward": f"{tmp_path}/rewards.py:score",
    }  # fmt: skip


def run(tmp_path: Path, stages: list, evaluate: dict | None = None) -> RunFolder:
    tree = {"model": "tiny-0.1m", "stages": stages, **({"evaluate": evaluate} if evaluate else {})}
    return run_recipe(build_recipe(yaml.safe_load(yaml.safe_dump(tree)), "recipe"), tmp_path / "run")


QUICK = {"steps": 3, "batch": 4, "checkpoint_every": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": "all"},
        {"neftune_alpha": 5.0},
        {"trainable": "prompt"},
        {"trainable": "prefix"},
        {"trainable": "lora", "dora": True},
        {"trainable": "lora", "quantise": "nf4"},
    ],
)
def test_supervised(changes: dict, rows: dict, tmp_path: Path) -> None:
    one = run(tmp_path, [{"sft": {"data": rows["chat"], **QUICK, **changes}}])
    assert math.isfinite(one.stage("sft").metrics()[-1]["loss"])
    assert load(str(one.stage("sft").model_folder)).weights_hash() != load("tiny-0.1m").weights_hash()


def test_text(rows: dict, tmp_path: Path) -> None:
    one = run(tmp_path, [{"sft": {"data": rows["text"], **QUICK}}])
    assert one.stage("sft").metrics()[0]["loss"] == pytest.approx(math.log(259), abs=0.5)


@pytest.mark.parametrize("objective", ["ipo", "simpo", "orpo", "kto", "beta_dpo", "dpo_sft"])
def test_preference(objective: str, rows: dict, tmp_path: Path) -> None:
    one = run(tmp_path, [{"preference": {"data": rows["pairs"], "objective": objective, **QUICK}}])
    first = one.stage("preference").metrics()[0]
    assert math.isfinite(first["loss"])
    if objective == "beta_dpo":
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert first["beta_dpo/running_margin"] == 0.0


def test_online_pairs_are_judged_by_a_function(rows: dict, tmp_path: Path) -> None:
    online = {"data": rows["prompts"], "online": True, "samples": 4, "max_tokens": 6, "rewards": {rows["reward"]: 1.0}}
    one = run(tmp_path, [{"preference": {**online, **QUICK, "batch": 8}}])
    assert 0 < one.stage("preference").metrics()[0]["online/pairs_share"] <= 1


def test_reward_models_and_their_ensemble(rows: dict, tmp_path: Path) -> None:
    trained = {"data": rows["pairs"], "held_out": 0.3, **QUICK, "learning_rate": 1e-3}
    both = "stage:reward+stage:reward-2"
    one = run(
        tmp_path,
        [
            {"reward": {**trained, "label_smoothing": 0.1}},
            {"reward": {**trained, "center_coefficient": 0.01}},
            {"evaluate": {"name": "picked", "suite": rows["prompts"], "items": 4, "best_of": 2, "judge": both}},
            {"policy_gradient": {"data": rows["prompts"], "rewards": {both: 1.0, "exact": 0.0}, "combine": "worst",
                                 "gold": "exact", "group": 4, "max_tokens": 4, **QUICK}},
        ],
        {"suite": rows["prompts"], "items": 4, "max_tokens": 4},
    )  # fmt: skip
    report = one.stage("reward").record()["held_out"]
    assert {"accuracy", "brier"} <= set(report)
    assert any("best of 2" in note for note in one.stage("picked").record()["notes"])
    metrics = one.stage("policy_gradient").metrics()[0]
    assert f"rewards/{both}/mean" in metrics
    assert {"held_out/gold", "held_out/proxy"} <= set(metrics)


def test_trusted_pairs_show_flipped_labels(rows: dict, tmp_path: Path) -> None:
    pairs = [json.loads(line) for line in Path(rows["pairs"]).read_text().splitlines()]
    flipped = tmp_path / "flipped.jsonl"
    flipped.write_text(
        "".join(json.dumps({**one, "chosen": one["rejected"], "rejected": one["chosen"]}) + "\n" for one in pairs)
    )
    settings = {"steps": 24, "batch": 8, "learning_rate": 3e-3, "held_out": 0.0, "trusted": rows["pairs"]}
    one = run(tmp_path, [{"reward": {"data": str(flipped), "trusted_every": 1, **settings}}])
    metrics = one.stage("reward").metrics()
    assert metrics[-1]["accuracy"] == 1.0
    assert metrics[-1]["held_out/gold_accuracy"] == 0.0
    assert "flipped_labels" in {alarm["detector"] for alarm in one.stage("reward").alarms()}


def test_process_reward(rows: dict, tmp_path: Path) -> None:
    one = run(tmp_path, [{"reward": {"data": rows["steps"], "objective": "process_reward", "held_out": 0.6, **QUICK}}])
    assert one.stage("reward").metrics()[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert one.stage("reward").record()["held_out"]


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "ppo", "group": 1, "epochs": 2, "minibatches": 2},
        {"objective": "rloo"},
        {"objective": "reinforce_plus_plus"},
        {"objective": "remax", "group": 1},
        {"objective": "dapo", "dynamic_sampling": 2, "overlong_buffer": 2},
        {"objective": "gspo", "importance": "truncate"},
        {"objective": "cispo", "environment": "retry", "turns": 2},
        {"objective": "dr_grpo", "mask_truncated": True},
    ],
    ids=lambda changes: changes["objective"],
)
def test_policy_gradient(changes: dict, rows: dict, tmp_path: Path) -> None:
    settings = {"data": rows["prompts"], "group": 4, "max_tokens": 6, "rewards": {rows["reward"]: 1.0, "exact": 0.5}}
    one = run(tmp_path, [{"policy_gradient": {**settings, **QUICK, "steps": 4, **changes}}])
    folder = one.stage("policy_gradient")
    first = folder.metrics()[0]
    assert first["reward/error_rate"] == 0.0
    assert f"rewards/{rows['reward']}/mean" in first
    assert "rewards/exact/mean" in first or changes.get("environment")
    if changes["objective"] == "ppo":
        assert (folder.path / "critic" / "config.json").exists()
        assert "value/explained_variance" in first
    if changes["objective"] == "dr_grpo":
        assert folder.record()["settings"]["completion_limit"] == 6


def test_ppo_goes_on_with_the_critic_of_a_reward_stage(rows: dict, tmp_path: Path) -> None:
    ppo = {"data": rows["prompts"], "objective": "ppo", "critic": "stage:reward", "max_tokens": 6, "group": 2, **QUICK}
    one = run(tmp_path, [{"reward": {"data": rows["pairs"], "held_out": 0.0, **QUICK}}, {"policy_gradient": ppo}])
    assert one.stage("policy_gradient").record()["status"] == "done"


def test_distillation_from_an_earlier_stage(rows: dict, tmp_path: Path) -> None:
    stages = [
        {"sft": {"name": "teacher", "data": rows["chat"], **QUICK, "learning_rate": 1e-2}},
        {"distill": {"start": "base", "teacher": "stage:teacher", "data": rows["chat"], "max_tokens": 6, **QUICK}},
    ]
    one = run(tmp_path, stages)
    assert one.stage("distill").metrics()[0]["loss"] > 0
    base, student = load("tiny-0.1m"), load(str(one.stage("distill").model_folder))
    assert base.weights_hash() != student.weights_hash()


def test_rejection_sampling_at_equal_compute_is_compared_with_the_run_it_matches(rows: dict, tmp_path: Path) -> None:
    (Path(rows["reward"].split(":")[0])).write_text("def score(output, row):\n    return float(len(output) > 2)\n")
    prompts = [json.loads(line) for line in Path(rows["prompts"]).read_text().splitlines()]
    Path(rows["prompts"]).write_text(
        "".join(json.dumps({**line, "verifier": "format", "metadata": {"pattern": ".*"}}) + "\n" for line in prompts)
    )
    one = run(
        tmp_path,
        [
            {"sft": {"data": rows["chat"], **QUICK}},
            {"policy_gradient": {"name": "grpo", "data": rows["prompts"], "rewards": {rows["reward"]: 1.0}, "group": 4,
                                 "max_tokens": 8, **QUICK, "steps": 6}},
            {"data": {"name": "right", "start": "sft", "prompts": rows["prompts"], "samples": 2, "max_tokens": 40,
                      "method": "rejection"}},
            {"sft": {"name": "rejection", "start": "sft", "compute_of": "grpo", "data": "stage:right", "batch": 2}},
        ],
        {"suite": rows["prompts"], "items": 4, "max_tokens": 4},
    )  # fmt: skip
    records = {stage.name: stage.record() for stage in one.stages()}
    assert records["rejection"]["start"] == "sft"
    notes = records["rejection"]["notes"]
    assert any(note.startswith("greedy, against sft") for note in notes)
    assert any("against grpo at equal compute" in note for note in notes)
    spent = records["right"]["flops"] + records["rejection"]["flops"]
    assert records["grpo"]["settings"]["data"] == rows["prompts"]
    # Whole steps: within one step of the budget, and never above it unless one step is all there is.
    assert spent <= records["grpo"]["flops"] or records["rejection"]["steps"] == 1
    assert records["rejection"]["tokens"] > 0


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"policy_gradient": {"data": "x", "group": 1}}, r"policy_gradient\.group.*at least 2"),
        ({"preference": {"data": "x", "beta": 0}}, r"preference\.beta.*above 0"),
        ({"preference": {"data": "x", "objective": "kto", "online": True}}, "kto learns from single answers"),
        ({"policy_gradient": {"data": "x", "temperature": 0}}, "temperature.*equal completions"),
        ({"policy_gradient": {"data": "x", "turns": 2}}, "environment.*nothing replies"),
        ({"policy_gradient": {"data": "x", "objective": "dpo"}}, "dpo.*no policy_gradient objective"),
        ({"distill": {"data": "x"}}, "teacher.*is missing"),
        ({"sft": {"data": "x", "name": "base"}}, "taken or not a name"),
        ({"sft": {"data": "x", "preset": "trl"}}, "preset.*has none"),
        ({"data": {"prompts": "x", "method": "rejection", "teacher": "y"}}, "serves distillation only"),
        ({"data": {"prompts": "x", "method": "distillation"}}, "teacher.*is missing"),
        ({"reward": {"data": "x", "objective": "process_reward", "trusted": "y"}}, "does not learn from pairs"),
    ],
)
def test_settings_that_cannot_work(stage: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        build_recipe({"stages": [stage]}, "recipe")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"sft": {"start": "nowhere"}}, "no earlier stage 'nowhere'"),
        ({"sft": {"compute_of": "nowhere"}}, "no earlier stage 'nowhere'"),
        ({"policy_gradient": {"data": "prompts", "rewards": {"stage:reward": 1.0}}}, "no earlier stage 'reward'"),
        ({"policy_gradient": {"data": "prompts", "rewards": {"exact": 0.0}}}, "no reward with a weight"),
        ({"policy_gradient": {"data": "prompts", "rewards": {"exact": 1.0}, "gold": "math"}}, "none of the rewards"),
        ({"policy_gradient": {"data": "prompts", "rewards": {"nan.py:score": 1.0}}}, "nan"),
        ({"policy_gradient": {"data": "empty"}}, "holds no rows"),
        ({"policy_gradient": {"data": "prompts", "compute_of": "sft"}}, "known only after its completions"),
        ({"preference": {"data": "cut", "max_length": 16}}, "cut.jsonl:1"),
        ({"sft": {"trainable": "all", "quantise": "nf4"}}, "quantise"),
        ({"evaluate": {"best_of": 2, "judge": "stage:reward"}}, "no earlier stage 'reward'"),
        ({"evaluate": {"best_of": 2, "judge": "majorty"}}, "neither a stage nor a folder"),
        ({"evaluate": {"suite": "nowhere.jsonl"}}, "nowhere"),
        ({"distill": {"teacher": "stage:typo"}}, "no earlier stage 'typo'"),
        ({"policy_gradient": {"data": "prompts", "objective": "ppo", "critic": "stage:typo"}}, "earlier stage 'typo'"),
    ],
)  # fmt: skip
def test_bad_input_leaves_no_folder(stage: dict, words: str, rows: dict, tmp_path: Path) -> None:
    (tmp_path / "nan.py").write_text("def score(output, row):\n    return float('nan')\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "cut.jsonl").write_text(json.dumps({"prompt": "p" * 40, "chosen": "x", "rejected": "y"}) + "\n")
    ((kind, given),) = stage.items()
    given = {"data": "chat", **given} if kind != "evaluate" else given
    if "data" in given:
        given = {**given, "data": str(tmp_path / f"{given['data']}.jsonl")}
    if "rewards" in given:
        given["rewards"] = {name.replace("nan.py", f"{tmp_path}/nan.py"): w for name, w in given["rewards"].items()}
    with pytest.raises(UsageError, match=words) as caught:
        run(tmp_path, [{kind: given}])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"combine": "worst"}, {"judge": "stage:reward", "best_of": 2}])
def test_no_reward_model_judges_the_base_model(changes: dict) -> None:
    tree = {"evaluate": {"suite": "x", **changes}, "stages": [{"sft": {"data": "x"}}]}
    with pytest.raises(UsageError, match="no reward model is there yet"):
        build_recipe(tree, "recipe")


@pytest.mark.parametrize(
    ("method", "reader", "fits"),
    [
        ("pairs", "preference", True),
        ("pairs", "sft", False),
        ("rejection", "sft", True),
        ("rejection", "reward", False),
    ],
)
def test_a_stage_reads_only_rows_of_its_kind_from_another(
    method: str, reader: str, fits: bool, rows: dict, tmp_path: Path
) -> None:
    made = {"data": {"prompts": rows["prompts"], "method": method, "samples": 2, "max_tokens": 2}}
    # Neither finds a right answer: the run ends in the data stage where the kinds fit, and before it where not.
    words = "no prompt got both|no completion was right" if fits else "no earlier stage 'data' can serve here"
    with pytest.raises(UsageError, match=words):
        run(tmp_path, [made, {reader: {"data": "stage:data", **QUICK}}])
    assert (tmp_path / "run").exists() == fits


def test_distillation_on_prompts_alone(rows: dict, tmp_path: Path) -> None:
    given = {"data": rows["prompts"], "teacher": "tiny-0.1m", "max_tokens": 4, **QUICK}
    metrics = run(tmp_path, [{"distill": given}]).stage("distill").metrics()
    assert [line["distill/on_policy_share"] for line in metrics] == [1.0] * 3


def test_an_evaluation_in_between_does_not_hide_the_stage_before(rows: dict, tmp_path: Path) -> None:
    stages = [
        {"sft": {"data": rows["chat"], **QUICK}},
        {"evaluate": {"name": "other", "suite": rows["prompts"], "items": 2, "max_tokens": 3}},
        {"preference": {"data": rows["pairs"], **QUICK}},
    ]
    one = run(tmp_path, stages, {"suite": rows["prompts"], "items": 4, "max_tokens": 4})
    assert one.stage("preference").record()["notes"][0].startswith("greedy, against sft")
    assert one.stage("base").record()["settings"]["suite"] == rows["prompts"]


def test_a_pair_file_serves_feedback(rows: dict) -> None:
    recipe = build_recipe({"stages": [{"preference": {"data": rows["pairs"], "objective": "kto"}}]}, "recipe")
    assert len(read_rows(recipe.stages[0], None, 0)) == 16


def test_a_policy_is_no_reward_model(rows: dict, tmp_path: Path) -> None:
    from trimpot.models.export import export

    export(load("tiny-0.1m"), tmp_path / "policy")
    given = {"data": rows["prompts"], "rewards": {str(tmp_path / "policy"): 1.0}, "max_tokens": 4, **QUICK}
    with pytest.raises(UsageError, match="has no reward head"):
        run(tmp_path, [{"policy_gradient": given}])


def test_a_teachers_answer_that_was_cut_off_is_no_row(rows: dict, tmp_path: Path) -> None:
    made = {"method": "distillation", "teacher": "tiny-0.1m", "prompts": rows["prompts"], "samples": 4, "max_tokens": 1}
    with pytest.raises(UsageError, match="no completion"):
        run(tmp_path, [{"data": made}])
