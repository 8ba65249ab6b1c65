"""How far does DPO move from its reference, and does a larger β hold it nearer?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file

from trimpot.core.seeds import seed_for
from trimpot.models.tiny import tiny
from trimpot.objectives.preference.dpo import DPO
from trimpot.studies import reversal
from trimpot.studies.measures import Difference, Level, Slope
from trimpot.studies.policy_metrics import on_own_samples, on_pairs
from trimpot.studies.study import Budget, Chart, Settings, Study, Values
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.reference import RowReference, frozen_copy
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """The seed's base model, fine-tuned until about half of its samples are right, and pairs of its own samples."""
    rows = reversal.words(1000 + settings["prompts"] + settings["held_out"], seed)
    learn, probe, prompts = rows[:872], rows[872:1000], rows[1000 : 1000 + settings["prompts"]]
    base = reversal.base_policy(learn, probe, settings["stop_at"], settings["sft_steps"], seed)
    pairs = reversal.constructed_pairs(base, prompts, 8, seed_for(seed, "pairs"))[: settings["pairs"]]
    reversal.save_pairs(pairs, folder / "pairs.json")
    save_file({name: value.contiguous() for name, value in base.trainable().items()}, folder / "base.safetensors")


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """DPO from the seed's base at one β; measured on words that neither fine-tuning nor DPO saw."""
    base = tiny("0.1m", seed=seed)
    base.model.load_state_dict(load_file(folder / "base.safetensors"), strict=False)
    pairs = reversal.load_pairs(folder / "pairs.json")
    held_out = reversal.words(1000 + settings["prompts"] + settings["held_out"], seed)[-settings["held_out"] :]
    labelled = reversal.with_wrong_labels(pairs, values["wrong_labels"], seed)
    policy = frozen_copy(base)
    policy.model.requires_grad_(True)
    source = DatasetSource(
        reversal.pair_samples(labelled, base), settings["batch"], seed_for(seed, "order", int(values["order"]))
    )
    loop = LoopSettings(steps=settings["steps"], batch=settings["batch"])
    optimizer = OptimizerSettings(learning_rate=settings["learning_rate"])
    plan = Plan(DPO(beta=values["beta"]), source, loop, optimizer, RowReference(base))
    for _ in train(TrainState.new(policy, optimizer), plan):
        pass
    own = reversal.constructed_pairs(base, held_out, 8, seed_for(seed, "held-out pairs"))
    return {
        "pairs": float(len(pairs)),
        **on_pairs(policy, base, reversal.pair_samples(own, base), DPO(beta=values["beta"])),
        **on_own_samples(policy, base, held_out, 16, seed_for(seed, "measure")),
    }


def _arms(betas: tuple[float, ...], wrong_labels: float, order: int = 0) -> Mapping[str, Mapping[str, float]]:
    ending = ("" if wrong_labels else ", exact labels") + (", other order" if order else "")
    return {f"beta={b:g}{ending}": {"beta": b, "wrong_labels": wrong_labels, "order": order} for b in betas}


SETTINGS = {
    "stop_at": 0.5, "sft_steps": 600, "prompts": 2000, "pairs": 1000, "held_out": 64,
    "steps": 200, "batch": 32, "learning_rate": 3e-4,
}  # fmt: skip
BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)
NOISY = {"wrong_labels": 0.2, "order": 0}
EXACT = {"wrong_labels": 0.0, "order": 0}

STUDY = Study(
    id="dpo-beta",
    question="How far from its reference does DPO end, against β, at equal steps and equal learning rate?",
    model="tiny-0.1m",
    scale=(
        "a random Llama on bytes, fine-tuned to write four letters backwards; its own samples paired"
        " by a verifier, one label in five wrong unless said; all weights, AdamW; settings chosen on seeds 0-4, 100-104"
    ),
    tests={
        "kl": Slope("kl", "beta", "slope of log KL(policy ‖ reference) on log β", log=True, where=NOISY),
        "accuracy": Slope("accuracy", "beta", "change in held-out accuracy for β times e", where=NOISY),
        "chosen": Level("logratio/chosen", "log π/π_ref of held-out chosen answers in nats, mean over β", where=NOISY),
        "kl, exact labels": Slope("kl", "beta", "slope of log KL on log β, no label wrong", log=True, where=EXACT),
    },
    claims={
        "dpo-larger-beta-stays-closer": "kl",
        "dpo-larger-beta-moves-further": "kl",
        "dpo-small-beta-degenerates": "accuracy",
        "dpo-chosen-falls": "chosen",
        "dpo-beta-holds-exact-labels": "kl, exact labels",
    },
    budgets={
        "quick": Budget({**_arms((0.01, 0.1, 1.0), 0.2), **_arms((0.1,), 0.2, order=1)}, 5, SETTINGS),
        "full": Budget({**_arms(BETAS, 0.2), **_arms((0.1,), 0.2, order=1), **_arms(BETAS, 0.0)}, 8, SETTINGS),
    },
    prepare=prepare,
    run=run,
    first_seed=10,
    control=Difference("kl", "beta=0.1", "beta=0.1, other order", "log KL of two data orders at β = 0.1", log=True),
    chart=Chart(
        metric="kl",
        knob="beta",
        group="wrong_labels",
        where={"order": 0},
        metric_title="KL to the reference, nats per completion",
        knob_title="β",
        group_title="share of wrong labels",
    ),
)
