"""How much do wrong labels cost, and do smoothed, unbiased or bounded losses lose less than DPO?

It makes a known share of labels wrong, so they have to be right before, and a verifier tells what was lost: rows of
one's own have to be prompts with an answer, not pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from trimpot.core.seeds import seed_for
from trimpot.core.tensors import Objective
from trimpot.objectives.preference.cdpo import ConservativeDPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.ipo import IPO
from trimpot.objectives.preference.robust_dpo import RobustDPO
from trimpot.studies.measures import Difference, Matched
from trimpot.studies.pair_runs import JUDGED, pair_run
from trimpot.studies.policy_metrics import on_own_samples, on_pairs
from trimpot.studies.study import Budget, Chart, Settings, Study, Tuning, Values
from trimpot.studies.subject import prepare_subject, subject_of

BETA, IPO_BETA = 1.0, 0.25
"""DPO's, which at a smaller one learns little here even from exact labels; IPO's asks for a gap of 2 nats."""
LOSSES: Mapping[str, Callable[[float], Objective]] = {
    "dpo": lambda share: DPO(beta=BETA),
    "cdpo": lambda share: ConservativeDPO(beta=BETA, label_smoothing=share),
    "robust_dpo": lambda share: RobustDPO(beta=BETA, label_smoothing=share),
    "ipo": lambda share: IPO(beta=IPO_BETA),
}
"""Loss of a share of wrong labels; those with label smoothing are told the true share."""


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """One objective on pairs of which a share is labelled wrongly; ``trained/*`` is measured on these, as labelled."""
    subject = subject_of(settings, seed, folder)
    objective = LOSSES[str(values["objective"])](float(values["wrong_labels"]))
    trained = pair_run(subject, objective, values, settings, seed)
    for _ in trained.steps:
        pass
    policy, reference = trained.policy, trained.reference
    as_labelled = on_pairs(policy, reference, trained.samples[:JUDGED], objective)
    rows, measure = subject.held_out(), seed_for(seed, "measure")
    return {
        "pairs": float(len(trained.samples)),
        "trained/gap": as_labelled["logratio/chosen"] - as_labelled["logratio/rejected"],
        **{f"trained/{name}": value for name, value in as_labelled.items()},
        **on_pairs(policy, reference, subject.samples(subject.held_out_pairs(), policy), objective),
        **on_own_samples(policy, reference, subject, rows, settings["samples"], measure),
    }


def _arms(objective: str, shares: tuple[float, ...], order: int = 0) -> Mapping[str, Values]:
    named = [(f"{objective}, {share:.0%} wrong" + (", other order" if order else ""), share) for share in shares]
    return {name: {"objective": objective, "wrong_labels": share, "order": order} for name, share in named}


def _grid(shares: tuple[float, ...]) -> Mapping[str, Values]:
    """Every objective at every share; at 0 cdpo and robust_dpo are DPO."""
    whole = {**_arms("dpo", (0.0, *shares)), **_arms("cdpo", shares), **_arms("robust_dpo", shares)}
    return {**whole, **_arms("ipo", (0.0, *shares)), **_arms("dpo", (0.4,), order=1)}


def _noisy(metric: str, what: str, first: str, second: str) -> Matched:
    words = f"{what} of {first} less that of {second}, mean over shares of wrong labels above 0"
    return Matched(metric, "objective", first, second, words, without=EXACT)


EXACT = {"wrong_labels": 0.0}
MARGIN, ACCURACY = ("trained/gap", "gap of log π/π_ref of trained pairs in nats"), ("accuracy", "held-out accuracy")
SETTINGS = {
    "subject": "words", "stop_at": 0.5, "sft_steps": 600, "prompts": 2000, "pairs": 1000, "held_out": 64,
    "samples": 8, "epochs": 6, "batch": 32,
}  # fmt: skip

STUDY = Study(
    id="dpo-label-noise",
    question="How much do wrong labels cost DPO, and do smoothed, unbiased or bounded losses lose less?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards; up to 1000 pairs of its own samples, made"
        " by a verifier, a share of them exchanged; β 1 (IPO 0.25), losses with smoothing told the true share; the rate"
        " per arm the best of three by accuracy; settings chosen on seed 2"
    ),
    tests={
        "cost": Difference("accuracy", "dpo, 40% wrong", "dpo, 0% wrong", "accuracy at 40% wrong labels less at 0"),
        "smoothing": _noisy(*ACCURACY, "cdpo", "dpo"),
        "robust": _noisy(*ACCURACY, "robust_dpo", "dpo"),
        "robust, smoothing": _noisy(*ACCURACY, "robust_dpo", "cdpo"),
        "ipo": _noisy(*ACCURACY, "ipo", "dpo"),
        "margin, smoothing": _noisy(*MARGIN, "cdpo", "dpo"),
        "margin, ipo": Difference(MARGIN[0], "ipo, 0% wrong", "dpo, 0% wrong", f"{MARGIN[1]}, ipo less dpo"),
    },
    claims={
        "wrong-labels-cost-accuracy": "cost",
        "smoothing-helps-under-noise": "smoothing",
        "robust-dpo-helps-under-noise": "robust",
        "robust-dpo-beats-smoothing": "robust, smoothing",
        "ipo-helps-under-noise": "ipo",
        "smoothing-bounds-margin": "margin, smoothing",
        "ipo-bounds-margin": "margin, ipo",
    },
    budgets={
        "quick": Budget(_grid((0.4,)), 5, SETTINGS, minutes=4.0, tuning_seeds=1),
        "full": Budget(_grid((0.1, 0.2, 0.4)), 8, SETTINGS, minutes=10.0, tuning_seeds=1),
    },
    prepare=prepare_subject, run=run, kinds=("prompts",), first_seed=10,
    tuning=Tuning(values=(1e-4, 3e-4, 1e-3), metric="accuracy", seeds=(0, 1)),
    control=Difference(
        "accuracy", "dpo, 40% wrong", "dpo, 40% wrong, other order",
        "held-out accuracy of two data orders of DPO at 40% wrong labels",
    ),
    chart=Chart(
        metric="accuracy", knob="wrong_labels", group="objective", where={"order": 0}, log=False,
        metric_title="share of right answers, held out", knob_title="share of wrong labels",
        group_title="objective",
    ),
)  # fmt: skip
