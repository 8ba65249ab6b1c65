"""Many completions of few prompts or few of many: what does GRPO learn more from, at equal numbers of completions?"""

from __future__ import annotations

from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.studies.grpo_task import Draws, defined, mean_over_steps, train_on_groups
from trimpot.studies.measures import Difference, Slope
from trimpot.studies.policy_metrics import on_own_samples
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values
from trimpot.studies.subject import prepare_subject, subject_of


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """GRPO from the seed's base with one size of group; measured on prompts that neither it nor fine-tuning saw.

    ``zero_variance``: the mean over steps of the share of groups whose rewards are all equal.
    """
    subject = subject_of(settings, seed, folder)
    policy, group = subject.base(), int(values["group"])
    draws = Draws(group, settings["completions"] // group, settings["steps"], float(values["learning_rate"]))
    steps = train_on_groups(policy, subject, GRPO(), draws, seed_for(seed, "order", int(values["order"])))
    rows, measure = subject.held_out(), seed_for(seed, "measure")
    return {
        **defined(zero_variance=mean_over_steps(steps, "frac_reward_zero_std")),
        **on_own_samples(policy, subject.base(), subject, rows, settings["samples"], measure),
    }


def _arms(*groups: int) -> dict[str, dict[str, float]]:
    """An arm for each size of group, and the control's second."""
    arms: dict[str, dict[str, float]] = {f"group={group}": {"group": group, "order": 0} for group in groups}
    return {**arms, "group=8, other order": {"group": 8, "order": 1}}


SETTINGS = {
    "stop_at": 0.3, "sft_steps": 600, "prompts": 2000, "pairs": 0, "held_out": 128,
    "samples": 16, "steps": 100, "completions": 64,
}  # fmt: skip
PLAIN = {"order": 0}

STUDY = Study(
    id="grpo-group-size",
    question="How many completions of a prompt does GRPO need, at 64 completions a step and equal steps?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards until three in ten are right; reward 1 for"
        " the right word; no KL term, all weights, AdamW, every arm with its own learning rate out of three; settings"
        " chosen on seeds 0-9"
    ),
    tests={
        "64 against 8": Difference("accuracy", "group=64", "group=8", "held-out accuracy, groups of 64 less of 8"),
        "2 against 16": Difference("accuracy", "group=2", "group=16", "held-out accuracy, groups of 2 less of 16"),
        "accuracy": Slope("accuracy", "group", "change in held-out accuracy for groups e times as large", where=PLAIN),
        "equal": Slope("zero_variance", "group", "change in the share of groups without variance", where=PLAIN),
    },
    claims={
        "grpo-64-beats-8": "64 against 8",
        "grpo-8-beats-64": "64 against 8",
        "grpo-2-matches-16": "2 against 16",
        "grpo-large-groups-train-better": "accuracy",
        "grpo-large-groups-differ": "equal",
    },
    budgets={
        "quick": Budget(_arms(2, 8, 64), 5, SETTINGS, minutes=3.0, tuning_seeds=1),
        "full": Budget(_arms(2, 4, 8, 16, 32, 64), 10, SETTINGS, minutes=7.0),
    },
    prepare=prepare_subject,
    run=run,
    control=Difference("accuracy", "group=8", "group=8, other order", "held-out accuracy of two orders at groups of 8"),
    chart=Chart(
        metric="accuracy", knob="group", where=PLAIN,
        metric_title="held-out accuracy", knob_title="completions of a prompt", log=False,
    ),
    first_seed=10,
    tuning=Tuning(values=(3e-4, 1e-3, 3e-3)),
    margins={"grpo-2-matches-16": 0.03},
    kinds=("prompts",),
)  # fmt: skip
