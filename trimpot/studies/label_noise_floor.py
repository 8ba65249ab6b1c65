"""What spread do accuracy and KL have when nothing differs? One recipe run again in other orders of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.models.policy import Policy
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.studies.grpo_task import Draws, train_on_groups
from trimpot.studies.measures import Difference
from trimpot.studies.pair_runs import pair_run
from trimpot.studies.policy_metrics import on_own_samples
from trimpot.studies.second_task import fine_tune
from trimpot.studies.study import Budget, Chart, Settings, Study, Values
from trimpot.studies.subject import Subject, prepare_subject, subject_of


def sft(subject: Subject, settings: Settings, seed: int, order: int) -> Policy:
    """The base fine-tuned further on its own rows."""
    policy = subject.base()
    samples = subject.samples(subject.chats(), policy)
    fine_tune(policy, samples, settings, settings["learning_rate"], seed_for(seed, "order", order))
    return policy


def dpo(subject: Subject, settings: Settings, seed: int, order: int) -> Policy:
    """The base after DPO on pairs of its own samples."""
    trained = pair_run(subject, DPO(), {"wrong_labels": 0.0, "order": order}, settings, seed)
    for _ in trained.steps:
        pass
    return trained.policy


def grpo(subject: Subject, settings: Settings, seed: int, order: int) -> Policy:
    """The base after GRPO; an order is one of prompts and of all samples."""
    policy = subject.base()
    draws = Draws(settings["group"], settings["batch"], settings["steps"], settings["learning_rate"])
    train_on_groups(policy, subject, GRPO(), draws, seed_for(seed, "order", order))
    return policy


FAMILIES: dict[str, Callable[[Subject, Settings, int, int], Policy]] = {"SFT": sft, "DPO": dpo, "GRPO": grpo}
"""Name of a kind of training -> the run."""


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """One kind of training from the seed's base in one order; measured on prompts that none of them saw."""
    subject, family = subject_of(settings, seed, folder), str(values["family"])
    policy = FAMILIES[family](subject, settings[family], seed, int(values["order"]))
    rows, measure = subject.held_out(), seed_for(seed, "measure")
    return on_own_samples(policy, subject.base(), subject, rows, settings["samples"], measure)


def _arms(orders: int) -> dict[str, dict[str, float | str]]:
    return {
        f"{family}, order {order}": {"family": family, "order": order} for family in FAMILIES for order in range(orders)
    }


def _repeat(family: str) -> Difference:
    words = f"held-out accuracy after {family}, one order of rows and samples less another"
    return Difference("accuracy", f"{family}, order 0", f"{family}, order 1", words)


SETTINGS = {
    "stop_at": 0.5, "sft_steps": 600, "prompts": 2000, "pairs": 1000, "held_out": 128, "samples": 16,
    "SFT": {"steps": 40, "batch": 32, "learning_rate": 3e-4},
    "DPO": {"steps": 100, "batch": 32, "learning_rate": 1e-4},
    "GRPO": {"steps": 60, "batch": 8, "learning_rate": 5e-4, "group": 8},
}  # fmt: skip

STUDY = Study(
    id="label-noise-floor",
    question="How much do accuracy and KL differ between runs of one recipe, in SFT, DPO and GRPO?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards until half are right, then trained"
        " by SFT on its own rows, by DPO on pairs of its own samples or by GRPO; all weights, AdamW; settings chosen on"
        " seeds 0-9"
    ),
    tests={family: _repeat(family) for family in FAMILIES},
    claims={
        "order-leaves-sft-accuracy": "SFT",
        "order-leaves-dpo-accuracy": "DPO",
        "order-leaves-grpo-accuracy": "GRPO",
    },
    budgets={
        "quick": Budget(_arms(3), 5, SETTINGS, minutes=3.0),
        "full": Budget(_arms(3), 12, SETTINGS, minutes=7.0),
    },
    prepare=prepare_subject,
    run=run,
    control=Difference("accuracy", "DPO, order 1", "DPO, order 2", "held-out accuracy after DPO in two more orders"),
    chart=Chart(
        metric="accuracy", knob="order", group="family",
        metric_title="held-out accuracy", knob_title="order of rows and samples", group_title="training", log=False,
    ),
    first_seed=10,
    margins={f"order-leaves-{name}-accuracy": 0.02 for name in ("sft", "dpo", "grpo")},
    kinds=("prompts",),
)  # fmt: skip
