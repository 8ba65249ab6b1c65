"""fp32, bf16 and fp16 with and without loss scaling and master weights: what each rung costs in held-out loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import seed_for
from trimpot.core.tensors import LossOut, Streams
from trimpot.data.order import RowSource
from trimpot.models.policy import Policy
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.probes.precision.loss_scale import LossScale
from trimpot.probes.precision.magnitudes import HIDDEN_STATES, LostUpdates
from trimpot.probes.precision.modes import MODES
from trimpot.probes.precision.steps import Look, Recipe, Trainer
from trimpot.studies.byte_text import PASS, model, windows
from trimpot.studies.measures import Difference, Level
from trimpot.studies.study import Budget, Chart, Settings, Study, Values

SCALES = {"none": LossScale.static(1.0), "static": LossScale.static(1024.0), "dynamic": LossScale()}
FAST, SLOW, FAINT = 4e-3, 1e-6, 2.0**-16
"""Rates of training from nothing and of preference training, small against the weights; weight of a faint loss."""


@dataclass(frozen=True)
class Weighted:
    """Cross-entropy times ``weight``: like an auxiliary loss, or a mean over very many tokens."""

    weight: float
    name: ClassVar[str] = "weighted"
    stage: ClassVar[str] = "sft"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N",)

    def __call__(self, streams: Streams) -> LossOut:
        out = SupervisedFineTuning()(streams)
        return replace(out, terms=tuple(replace(term, weight=self.weight) for term in out.terms))


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Reads the text, so that a missing file shows at once."""
    windows(seed)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Trains in one mode. ``loss``: on held-out windows, in float32, nats per byte; ``overflows``: steps skipped;
    ``flushed``: per cent of fp32's weight gradients that float16 makes 0; ``lost``: per cent of updates not taken.
    """
    mode, steps = MODES[str(values["mode"])], int(settings["steps"])
    policy = model(32, seed)
    train_on, held_out = ([_sample(policy, text, n) for n, text in enumerate(texts)] for texts in windows(seed))
    recipe = Recipe(Weighted(float(values["weight"])), float(values["rate"]), 1.0, PASS)
    trainer = Trainer(policy, mode, recipe, SCALES[mode.scaling])
    source = RowSource(train_on, settings["batch"], seed_for(seed, "order", int(values["order"])))
    taken = [trainer.step(source.draw(step), step in (0, steps // 2, steps - 1)) for step in range(steps)]
    found = {"loss": trainer.loss_of(held_out[: settings["held_out"]]) / float(values["weight"])}
    found["overflows"] = float(sum(record.overflow for record, _ in taken))
    return {**found, **_shares([look for _, look in taken if look])}


def _shares(looks: list[Look]) -> dict[str, float]:
    gradients = [one for look in looks for name, one in look.gradients.items() if name != HIDDEN_STATES]
    if count := sum(one.nonzero for one in gradients):
        return {"flushed": 100 * sum(one.flushed for one in gradients) / count}
    lost = sum((one for look in looks for groups in look.lost.values() for one in groups.values()), LostUpdates(""))
    return {} if lost.lost_share is None else {"lost": 100 * lost.lost_share}


def _sample(policy: Policy, text: str, number: int) -> Sample:
    ids = tuple(policy.tokenizer.encode(text, add_special_tokens=False))
    return Sample(str(number), (), (Branch(ids, (False, *[True] * (len(ids) - 1))),))


def _arm(mode: str, rate: float = FAST, weight: float = 1.0, order: int = 0) -> Values:
    return {"mode": mode, "rate": rate, "weight": weight, "order": order}


ARMS = {
    **{mode: _arm(mode) for mode in ("fp32", "bf16", "fp16", "fp16-static", "fp16-dynamic", "fp16-dynamic-no-master")},
    **{f"{mode}, faint": _arm(mode, weight=FAINT) for mode in ("fp32", "fp16", "fp16-dynamic")},
    **{f"{one}, slow": _arm(one, SLOW) for one in ("fp16-dynamic", "fp16-dynamic-no-master", "bf16", "bf16-no-master")},
    "fp32, other order": _arm("fp32", order=1),
}  # fmt: skip
PLAIN: Values = {"mode": "fp32", "weight": 1.0}


def _loss(first: str, second: str) -> Difference:
    return Difference("loss", first, second, f"held-out loss in nats per byte, {first} less {second}")


STUDY = Study(
    id="precision-ladder",
    question="Which of loss scaling and master weights does training in half precision need, and when?",
    model="a byte decoder of two layers, 32 wide",
    scale="a random Llama on packaged text, AdamW with moments in float32, half precision as on CPUs; a constant rate"
    " of 4e-3, or 1e-6 (slow); the loss as it is, or times 2^-16 (faint)",
    tests={
        "flushed": Level("flushed", "per cent of fp32's weight gradients that float16 makes 0", PLAIN),
        "scaling": _loss("fp16", "fp16-dynamic"), "faint": _loss("fp16, faint", "fp16-dynamic, faint"),
        "matches": _loss("fp16-dynamic", "fp32"), "bf16 matches": _loss("bf16", "fp32"),
        "master": _loss("fp16-dynamic-no-master, slow", "fp16-dynamic, slow"),
        "bf16 master": _loss("bf16-no-master, slow", "bf16, slow"),
    },
    claims={
        "small-gradients-vanish": "flushed", "half-needs-loss-scaling": "scaling", "faint-loss-needs-scaling": "faint",
        "scaled-half-matches-single": "matches", "bfloat16-matches-single": "bf16 matches",
        "master-copy-is-needed": "master", "bfloat16-needs-master-copy": "bf16 master",
    },
    margins={"scaled-half-matches-single": 0.01, "bfloat16-matches-single": 0.01},
    budgets={
        "quick": Budget(ARMS, 5, {"steps": 60, "batch": 16, "held_out": 128}, minutes=4.0),
        "full": Budget(ARMS, 8, {"steps": 400, "batch": 16, "held_out": 512}, minutes=30.0),
    },
    prepare=prepare, run=run, control=_loss("fp32", "fp32, other order"),
    chart=Chart("loss", "mode", None, {"rate": FAST, "weight": 1.0, "order": 0}, "held-out loss", "mode"),
    first_seed=10,
)  # fmt: skip
