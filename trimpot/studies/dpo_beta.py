"""How far does DPO move from its reference, and does a larger β hold it nearer?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.objectives.preference.dpo import DPO
from trimpot.studies.measures import Difference, Level, Measure, Slope
from trimpot.studies.pair_runs import pair_run
from trimpot.studies.policy_metrics import on_own_samples, on_pairs
from trimpot.studies.study import Budget, Chart, Settings, Study, Values
from trimpot.studies.subject import prepare_subject, subject_of


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """DPO from the seed's base at one β; measured on prompts that neither fine-tuning nor DPO saw."""
    subject = subject_of(settings, seed, folder)
    objective = DPO(beta=float(values["beta"]))
    kept = folder if settings.get("keep_reference") else None
    trained = pair_run(subject, objective, values, settings, seed, kept)
    for _ in trained.steps:
        pass
    policy, reference = trained.policy, trained.reference
    held_out = subject.samples(subject.held_out_pairs(), policy)
    rows, measure = subject.held_out(), seed_for(seed, "measure")
    return {
        "pairs": float(len(trained.samples)),
        **on_pairs(policy, reference, held_out, objective),
        **on_own_samples(policy, reference, subject, rows, settings["samples"], measure),
    }


def arms(betas: tuple[float, ...], wrong_labels: float, order: int = 0) -> Mapping[str, Values]:
    """One arm for each β."""
    ending = ("" if wrong_labels else ", exact labels") + (", other order" if order else "")
    return {f"beta={b:g}{ending}": {"beta": b, "wrong_labels": wrong_labels, "order": order} for b in betas}


SETTINGS = {
    "subject": "words", "stop_at": 0.5, "sft_steps": 600, "prompts": 2000, "pairs": 1000, "held_out": 64,
    "samples": 16, "steps": 200, "batch": 32, "learning_rate": 3e-4,
}  # fmt: skip
BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)
NOISY = {"wrong_labels": 0.2, "order": 0}
EXACT = {"wrong_labels": 0.0, "order": 0}
CONTROL = Difference("kl", "beta=0.1", "beta=0.1, other order", "log KL of two data orders at β = 0.1", log=True)
TESTS: Mapping[str, Measure] = {
    "kl": Slope("kl", "beta", "slope of log KL(policy ‖ reference) on log β", log=True, where=NOISY),
    "accuracy": Slope("accuracy", "beta", "change in held-out accuracy for β times e", where=NOISY),
    "chosen": Level("logratio/chosen", "log π/π_ref of held-out chosen answers in nats, mean over β", where=NOISY),
    "rejected": Level(
        "logratio/rejected", "log π/π_ref of held-out rejected answers in nats, mean over β", where=NOISY
    ),
}
CLAIMS = {
    "dpo-larger-beta-stays-closer": "kl",
    "dpo-larger-beta-moves-further": "kl",
    "dpo-small-beta-degenerates": "accuracy",
    "dpo-raises-chosen": "chosen",
    "dpo-chosen-falls": "chosen",
    "dpo-suppresses-rejected": "rejected",
}
CHART = Chart(
    metric="kl",
    knob="beta",
    group="wrong_labels",
    where={"order": 0},
    metric_title="KL to the reference, nats per completion",
    knob_title="β",
    group_title="share of wrong labels",
)

STUDY = Study(
    id="dpo-beta",
    question="How far from its reference does DPO end, against β, at equal steps and equal learning rate?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards; its own samples paired"
        " by a verifier, one label in five wrong unless said; all weights, AdamW; settings chosen on seeds 0-4, 100-104"
    ),
    tests={
        **TESTS,
        "kl, exact labels": Slope("kl", "beta", "slope of log KL on log β, no label wrong", log=True, where=EXACT),
    },
    claims={**CLAIMS, "dpo-beta-holds-exact-labels": "kl, exact labels"},
    budgets={
        "quick": Budget({**arms((0.01, 0.1, 1.0), 0.2), **arms((0.1,), 0.2, order=1)}, 5, SETTINGS, minutes=2.0),
        "full": Budget(
            {**arms(BETAS, 0.2), **arms((0.1,), 0.2, order=1), **arms(BETAS, 0.0)}, 8, SETTINGS, minutes=6.0
        ),
    },
    prepare=prepare_subject,
    run=run,
    first_seed=10,
    control=CONTROL,
    chart=CHART,
    kinds=("pairs",),
)
