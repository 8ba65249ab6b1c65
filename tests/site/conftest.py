"""A constructed run: every number in it is made up, in the shape that a real run leaves."""

import math
import random

import pytest

from trimpot.store.outcomes import Outcome, write_outcomes
from trimpot.store.run_folder import RunFolder

RECIPE = """# constructed for tests, no real run
model: smollm2-135m
seed: 0
stages:
  - evaluate:        {suite: arithmetic}
  - sft:             {data: rows/chat.jsonl, steps: 60, learning_rate: 5e-5}
  - reward:          {data: rows/pairs.jsonl, steps: 30}
  - preference:      {data: rows/pairs.jsonl, objective: dpo, beta: 0.1, steps: 30}
  - policy_gradient: {data: rows/prompts.jsonl, objective: grpo, group: 8, steps: 25}
"""
HOSTILE = '</pre></script><script>alert(1)</script><img src=x onerror="alert(2)"> {{ 7 * 7 }} <!-- \u202e'
TASKS = {"two-term sums": 0.4, "letter counting": 0.45, "greatest common divisor": 0.3, "syllogisms": 0.6}
STAGES = [
    ("evaluate", 0.0, {"suite": "arithmetic"}, 21.4, None),
    ("sft", 0.75, {"objective": "sft", "learning_rate": 5e-5, "steps": 60}, 141.2, 38_400),
    ("reward", None, {"objective": "bradley_terry", "steps": 30}, 48.0, 21_300),
    ("preference", 0.9, {"objective": "dpo", "beta": 0.1, "learning_rate": 5e-6, "steps": 30}, 95.5, 24_100),
    ("policy_gradient", 1.05, {"objective": "grpo", "group": 8, "learning_rate": 3e-6, "steps": 25}, 312.9, 96_000),
]


def make_run(path):
    """The constructed run in an empty folder."""
    run = RunFolder.create(path)
    run.write_recipe(RECIPE)
    for index, (kind, skill, settings, seconds, tokens) in enumerate(STAGES):
        stage = run.stage(kind)
        write_metrics(stage, kind, settings.get("steps", 0))
        if skill is not None:
            write_outcomes(stage.outcomes_path, outcomes(kind, skill))
        stage.write_record(
            {"kind": kind, "index": index, "settings": settings, "started": "2026-01-01T10:00:00+00:00",
             "seconds": seconds, "status": "done", "tokens": tokens,
             **({"training_seconds": 128.0} if kind == "sft" else {}), "notes": ["constructed"] if not index else []}
        )  # fmt: skip
    run.stage("policy_gradient").append_alarm(
        {"detector": "entropy_collapse", "step": 18, "metric": "entropy", "value": 0.21, "threshold": 0.3,
         "message": "Entropy fell to 0.21 nats, below 0.3 <nats>.", "mend": "Raise the temperature.",
         "card": "policy_gradient.temperature"}
    )  # fmt: skip
    return run


def write_metrics(stage, kind, steps):
    noise = random.Random(kind)
    for step in range(1, steps + 1):
        decay = math.exp(-step / 20)
        row = {"step": step, "loss": 0.4 + 2 * decay + noise.gauss(0, 0.05), "grad_norm": 1 + decay * noise.random()}
        row["learning_rate"] = 5e-5 * (1 - step / (steps + 1))
        if kind == "preference":
            row |= {"rewards/margins": 1 - decay, "rewards/accuracies": 0.9 - decay / 3, "kl": 3 * (1 - decay)}
        if kind == "policy_gradient":
            row |= {"reward": 0.5 - decay / 3, "entropy": 0.2 + decay, "kl": 0.1 * (1 - decay)}
            row |= {"completions/clipped_ratio": 0.05, "frac_reward_zero_std": None if step % 2 else 0.25}
        if kind == "sft" and step == 7:
            row["loss"] = math.nan
        stage.append_metrics(row)


def outcomes(kind, skill):
    made = []
    for number in range(96):
        task = list(TASKS)[number % 4]
        draw = random.Random(number).random() + random.Random(f"{kind}{number}").gauss(0, 0.15)
        right = draw < TASKS[task] * skill
        failed = not right and skill < 0.5 and number % 3 == 0
        made.append(
            Outcome(
                run="constructed", weights=kind, task=task, item=f"item-{number}", cluster="",
                slices={"difficulty": "easy" if number % 8 < 4 else "hard"}, perturbation="none", prompt_ids=(1, 2),
                prompt=f"What is {number} + {number}? Answer with the number only.", expected=str(2 * number),
                output=str(2 * number) if right else HOSTILE if number % 2 else f"I think it is {number}.",
                score=None if failed else float(right), status="parse_failed" if failed else "ok",
            )
        )  # fmt: skip
    return made


@pytest.fixture(scope="session")
def constructed_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "constructed")
