"""By what should GRPO divide a completion's loss and its advantage? The paper's, Dr. GRPO's and DAPO's answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.studies.grpo_task import (
    Draws,
    defined,
    lengths_of_wrong,
    mean_over_steps,
    share_of_extremes,
    train_on_groups,
)
from trimpot.studies.lengths import prepare_lengths, subject_with_lengths
from trimpot.studies.measures import Difference
from trimpot.studies.policy_metrics import on_own_samples
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """GRPO from the seed's base under one pair of divisors; measured on words that neither it nor fine-tuning saw.

    ``extremes``: the share of the completions' summed absolute advantages on prompts that at most one or at least all
    but one of eight completions get right, mean over steps. ``zero_variance`` as in the study of group sizes.
    """
    subject = subject_with_lengths(settings, seed, folder)
    policy, group, scale = subject.base(), settings["group"], str(values["advantage"])
    objective = GRPO(
        normalisation=str(values["loss"]), scale_rewards=scale, completion_limit=subject.sampling.max_tokens
    )
    draws = Draws(group, settings["batch"], settings["steps"], float(values["learning_rate"]))
    steps = train_on_groups(policy, subject, objective, draws, seed_for(seed, "order", int(values["order"])))
    rows, measure = subject.held_out(), seed_for(seed, "measure")
    return {
        **defined(zero_variance=mean_over_steps(steps, "frac_reward_zero_std")),
        **defined(extremes=share_of_extremes(steps, group, scale)),
        **lengths_of_wrong(policy, subject, rows, settings["samples"], measure),
        **on_own_samples(policy, subject.base(), subject, rows, settings["samples"], measure),
    }


PAPER, CONSTANT, DR_GRPO, DAPO = "the paper", "constant", "Dr. GRPO", "DAPO"
DIVISORS: Mapping[str, Values] = {
    PAPER: {"loss": "sequence", "advantage": "group", "order": 0},
    f"{PAPER}, other order": {"loss": "sequence", "advantage": "group", "order": 1},
    CONSTANT: {"loss": "fixed", "advantage": "group", "order": 0},
    DR_GRPO: {"loss": "fixed", "advantage": "none", "order": 0},
    DAPO: {"loss": "token", "advantage": "group", "order": 0},
}
"""Arm -> what the loss and the advantage are divided by; "constant" parts Dr. GRPO's two changes."""
SETTINGS = {
    "subject": "lengths", "shortest": 3, "longest": 8, "max_tokens": 24, "stop_at": 0.4, "sft_steps": 1500,
    "prompts": 2000, "held_out": 128, "samples": 16, "steps": 80, "batch": 8, "group": 8,
}  # fmt: skip

STUDY = Study(
    id="grpo-normalisation",
    question="What do wrong completions and accuracy do under the three divisions of GRPO's loss and advantage?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write words of 3 to 8 letters backwards (constructed, so that lengths"
        " differ) until four in ten are right, with room for 24 tokens; reward 1 for the right word; 8 prompts of 8"
        " completions a step, no KL term, all weights, AdamW, every arm with its own learning rate out of three;"
        " settings chosen on seeds 0-9"
    ),
    tests={
        "length": Difference(
            "excess/wrong", PAPER, CONSTANT,
            "tokens of wrong completions beyond the right answer's, loss divided by length less by a constant",
        ),
        "extremes": Difference(
            "extremes", CONSTANT, DR_GRPO,
            "share of the weight on prompts with at most 1 or at least 7 of 8 right, with less without the division",
        ),
        "Dr. GRPO": Difference("accuracy", DR_GRPO, PAPER, "held-out accuracy, Dr. GRPO less the paper's GRPO"),
        "DAPO": Difference("accuracy", DAPO, PAPER, "held-out accuracy, loss divided by all tokens less by length"),
    },
    claims={
        "length-division-favours-long-wrong": "length",
        "std-division-favours-extremes": "extremes",
        "dr-grpo-keeps-accuracy": "Dr. GRPO",
        "token-loss-raises-accuracy": "DAPO",
    },
    budgets={
        "quick": Budget(DIVISORS, 5, SETTINGS, minutes=3.0, tuning_seeds=1),
        "full": Budget(DIVISORS, 8, SETTINGS, minutes=7.0),
    },
    prepare=prepare_lengths,
    run=run,
    control=Difference("excess/wrong", PAPER, f"{PAPER}, other order", "tokens of wrong completions in two orders"),
    chart=Chart(
        metric="excess/wrong", knob="loss", group="advantage", where={"order": 0},
        metric_title="tokens of wrong completions beyond the right answer's", knob_title="the loss is divided by",
        group_title="the advantage by", log=False,
    ),
    first_seed=10,
    tuning=Tuning(values=(2e-4, 4e-4, 8e-4)),
    margins={"dr-grpo-keeps-accuracy": 0.03},
    kinds=("prompts",),
)  # fmt: skip
