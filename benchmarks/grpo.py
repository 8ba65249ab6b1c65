"""GRPO: sample 8 completions of each of 2 prompts, 64 new tokens, score them, take a step; TRL and `trimpot run`.

The reward is a number that a hash makes of the completion's text, so every group has variance and none may be left
out. Temperature 1, no KL (TRL's default). Both sides generate exactly 64 tokens: TRL's `generate` is told to suppress
the end token; for trimpot the set of tokens that end a completion is emptied for this run, so that none ends one. TRL
generates with transformers' `generate`, all 16 at once, and trains on 8 at a time (its default batch).

What is drawn differs between the two, so the losses are not compared, only the counts; both must be near 0 in every
step, as advantages of a group add to 0 and all ratios are 1. Operations: 2 × trunk × (prompt + completion tokens) and
2 × head × completion tokens for sampling, 6 × the same for training; a prompt's tokens count once for its group.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import trimpot_side, trl_side
from benchmarks.measure import SCORED, TRAINED, Gate, column, open_gate, per_step, weights_of
from benchmarks.rows import prompt_rows

LEARNING_RATE, MAX_LENGTH, TRL_BATCH = 1e-6, 1024, 8
FULL = {"model": "smollm2-135m", "prompts": 2, "group": 8, "new_tokens": 64}
QUICK = {"model": "smollm2-135m", "prompts": 1, "group": 4, "new_tokens": 16}


def reward(output: str, row: Any) -> float:
    """A number in [0, 1) that depends on the completion alone: trimpot's form of a reward function."""
    return int.from_bytes(hashlib.blake2b(output.encode(), digest_size=4).digest(), "big") / 2**32


def run(
    peer: str, steps: int, model: str, prompts: int, group: int, new_tokens: int, gate: Gate = open_gate
) -> dict[str, Any]:
    """Completions per second of every step after the first."""
    records = prompt_rows(steps * prompts)
    sizes = {"steps": steps, "batch": prompts, "max_tokens": new_tokens, "group": group}
    if peer == "trimpot":
        heard = _trimpot(sizes, records, model, gate)
        clock, lines = heard.clock, heard.lines
        tokens, targets = column(lines, "num_tokens"), column(lines, "num_target_tokens")
        weights, pairs = weights_of(model), zip(tokens, targets, strict=True)
        rest: dict[str, Any] = {"operations": [weights.operations(TRAINED + SCORED, *pair) for pair in pairs]}
        prompt_tokens, sampled = int(sum(tokens) - sum(targets)), int(sum(targets))
    else:
        in_order = [records[place] for place in trimpot_side.order("policy_gradient", len(records), prompts)]
        clock, lines = _trl(trl_side.SETUPS[peer], in_order, sizes, model, gate)
        prompt_tokens, rest = sum(one.tokens for one in trimpot_side.tokenised(records, model, MAX_LENGTH)), {}
        sampled = round(sum(column(lines, "completions/mean_length")) * prompts * group)
    if sampled != steps * prompts * group * new_tokens:
        raise RuntimeError(f"{peer} sampled {sampled} tokens, not {new_tokens} for every completion")
    work = {
        "completions": steps * prompts * group,
        "prompt_tokens": prompt_tokens,
        "sampled_tokens": sampled,
        "groups_without_variance": sum(column(lines, "frac_reward_zero_std")),
    }
    return per_step(clock, [prompts * group] * steps, work=work, numbers={"loss": column(lines, "loss")}, **rest)


def _trimpot(sizes: dict[str, int], records: list[Any], model: str, gate: Gate) -> trimpot_side.Listener:
    rewards = {f"{Path(__file__).resolve()}:reward": 1.0}
    settings = {"objective": "grpo", "learning_rate": LEARNING_RATE, "rewards": rewards, **sizes}
    with patch("trimpot.rollout.engine.end_tokens", lambda _policy: set()):
        return trimpot_side.train("policy_gradient", settings, records, model, gate)


def _trl(setup: trl_side.Setup, records: list[Any], sizes: dict[str, int], model: str, gate: Gate) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def scores(completions: list[Any], **_: Any) -> list[float]:
        return [reward(completion[0]["content"], None) for completion in completions]

    def build(folder: str, callbacks: list[Any]) -> Any:
        trained, tokenizer = trl_side.model_and_tokenizer(model)
        completions = sizes["batch"] * sizes["group"]
        at_once = min(TRL_BATCH, completions)
        config = GRPOConfig(
            output_dir=folder,
            num_generations=sizes["group"],
            max_completion_length=sizes["max_tokens"],
            gradient_accumulation_steps=completions // at_once,
            generation_kwargs={"suppress_tokens": [tokenizer.eos_token_id]},
            shuffle_dataset=False,
            **trl_side.arguments(setup, sizes["steps"], at_once, LEARNING_RATE),
        )
        rows = Dataset.from_list(records)
        return GRPOTrainer(trained, scores, config, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)

    return trl_side.run_trainer(setup, build, gate)
