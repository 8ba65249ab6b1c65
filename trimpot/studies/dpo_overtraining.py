"""Does the share of right answers rise and then fall as DPO goes on over the same pairs, and does it before one epoch?

It judges by a verifier: rows of one's own have to be prompts with an answer, not pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.objectives.preference.dpo import DPO
from trimpot.studies.measures import Difference, Growth
from trimpot.studies.pair_runs import JUDGED, PairRun, pair_run
from trimpot.studies.policy_metrics import on_own_samples, on_pairs
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values
from trimpot.studies.subject import Subject, prepare_subject, subject_of

EPOCHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Passes over the pairs after which the policy is measured."""


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """One long DPO run; ``METRIC@E`` is a metric after E passes over the pairs, ``@0`` before the first step."""
    subject = subject_of(settings, seed, folder)
    objective = DPO(beta=float(values["beta"]))
    trained = pair_run(subject, objective, values, settings, seed)
    steps_an_epoch = len(trained.samples) / settings["batch"]
    points = {max(1, round(epochs * steps_an_epoch)): epochs for epochs in EPOCHS}
    found = {"pairs": float(len(trained.samples)), **_measured(trained, objective, subject, settings, 0.0)}
    for step in trained.steps:
        if step.number in points:
            found |= _measured(trained, objective, subject, settings, points[step.number])
    return found


def _measured(
    trained: PairRun, objective: DPO, subject: Subject, settings: Settings, epochs: float
) -> dict[str, float]:
    """On held-out prompts: KL, accuracy, length; the margin on pairs as they are trained on, labels and all."""
    own = on_own_samples(
        trained.policy, trained.reference, subject, subject.held_out(), settings["samples"],
        seed_for(subject.seed, "measure"),
    )  # fmt: skip
    pairs = on_pairs(trained.policy, trained.reference, trained.samples[:JUDGED], objective)
    return {f"{name}@{epochs:g}": value for name, value in {**pairs, **own}.items()}


def _arms(betas: tuple[float, ...], wrong_labels: float, order: int = 0) -> Mapping[str, Values]:
    ending = (", noisy" if wrong_labels else ", exact") + (", other order" if order else "")
    return {f"beta={b:g}{ending}": {"beta": b, "wrong_labels": wrong_labels, "order": order} for b in betas}


SETTINGS = {
    "subject": "words", "stop_at": 0.5, "sft_steps": 600, "prompts": 2000, "pairs": 1000, "held_out": 64,
    "samples": 8, "epochs": EPOCHS[-1], "batch": 8, "schedule": "constant", "warmup": 0.02,
}  # fmt: skip
BETAS = (0.1, 0.3, 1.0)
NOISE = 0.2
NOISY = {"wrong_labels": NOISE, "order": 0}
FULL = {**_arms(BETAS, NOISE), **_arms((0.1,), NOISE, order=1), **_arms(BETAS, 0.0)}
QUICK = {**_arms((0.1, 1.0), NOISE), **_arms((0.1,), NOISE, order=1), **_arms((0.1,), 0.0)}

STUDY = Study(
    id="dpo-overtraining",
    question="Does the share of right answers peak and fall as DPO goes on, and does it within one epoch?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards; up to 1000 pairs of its own samples, made"
        " by a verifier, one label in five wrong unless said; a constant rate, per arm the best of three by accuracy"
        " after one epoch; settings chosen on seeds 0-2"
    ),
    tests={
        "within": Growth(
            "accuracy@1", "accuracy@0.25",
            "held-out accuracy after one epoch less that after a quarter of it, mean over β", where=NOISY,
        ),
        "after": Growth(
            "accuracy@4", "accuracy@1",
            "held-out accuracy after four epochs less that after one, mean over β", where=NOISY,
        ),
        "margin": Growth(
            "rewards/margins@4", "rewards/margins@1",
            "reward margin of trained pairs after four epochs less that after one, mean over β",
            where={"wrong_labels": 0.0, "order": 0},
        ),
    },
    claims={
        "dpo-peaks-within-an-epoch": "within",
        "dpo-falls-after-an-epoch": "after",
        "exact-labels-unbound-margin": "margin",
    },
    budgets={
        "quick": Budget(QUICK, 5, SETTINGS, minutes=4.0, tuning_seeds=1),
        "full": Budget(FULL, 8, SETTINGS, minutes=8.0),
    },
    kinds=("prompts",),
    prepare=prepare_subject,
    run=run,
    first_seed=10,
    tuning=Tuning(values=(3e-5, 1e-4, 3e-4), metric="accuracy@1", seeds=(0, 1)),
    control=Difference(
        "accuracy@4", "beta=0.1, noisy", "beta=0.1, noisy, other order",
        "held-out accuracy after four epochs of two data orders at β = 0.1",
    ),
    chart=Chart(
        metric="accuracy", knob="kl", group="beta", where=NOISY, along=(0.0, *EPOCHS), log=False,
        metric_title="share of right answers, held out", knob_title="KL to the reference, nats per completion",
        group_title="β",
    ),
)  # fmt: skip
