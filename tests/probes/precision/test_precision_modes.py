"""Comparisons on tiny models: steps as torch takes them, a case that needs scaling, one that needs master weights."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import stream
from trimpot.core.tensors import LossOut, Streams, pack_one
from trimpot.models.tiny import tiny
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.probes.precision.compare import PrecisionSettings, measure_precision
from trimpot.probes.precision.loss_scale import LossScale
from trimpot.probes.precision.modes import MODES
from trimpot.probes.precision.steps import Recipe, Trainer

SETTINGS = PrecisionSettings(steps=8, batch=4, learning_rate=1e-2, orders=3, measured=4)


def rows(count: int = 24, length: int = 12) -> list[Sample]:
    """Letters that follow the alphabet from a random one: easy to learn."""
    draw = stream(0, "rows")
    found = []
    for number in range(count):
        first = draw.randrange(200)
        ids = tuple(first + place for place in range(length))
        found.append(Sample(str(number), (), (Branch(ids, (False, *[True] * (length - 1))),)))
    return found


def model():
    return tiny("0.1m", num_hidden_layers=1)


@dataclass(frozen=True)
class Faint:
    """Cross-entropy times 2^-20: like an auxiliary loss with a tiny coefficient, or a mean over very many tokens."""

    name: ClassVar[str] = "faint"
    stage: ClassVar[str] = "sft"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N",)

    def __call__(self, streams: Streams) -> LossOut:
        out = SupervisedFineTuning()(streams)
        (term,) = out.terms
        return LossOut((dataclasses.replace(term, weight=2.0**-20),), out.stats)


def test_fp32_takes_the_steps_that_torch_takes_and_leaves_the_model_alone():
    policy, samples = model(), rows(8)
    recipe = Recipe(SupervisedFineTuning(), 1e-2, 1.0, 40)
    trainer = Trainer(policy, MODES["fp32"], recipe, LossScale.static(1.0))
    before = policy.weights_hash()
    taken = [(trainer.step(samples[:4])[0], trainer.loss_of(samples[4:])) for _ in range(3)]
    assert policy.weights_hash() == before

    own = model()
    optimizer = torch.optim.AdamW(own.trainable().values(), lr=1e-2, weight_decay=0.0)
    for record, found in taken:
        loss = -own.scores(pack_one(samples[:4])).logprob_N.mean()
        assert record.loss == pytest.approx(loss.item(), rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(own.trainable().values(), 1.0)
        assert record.norm == pytest.approx(norm.item(), rel=1e-3)
        optimizer.step()
        measured = -own.scores(pack_one(samples[4:])).logprob_N.mean().item()
        assert found == pytest.approx(measured, rel=1e-4)


def test_without_scaling_a_faint_loss_does_not_train_in_fp16_and_with_scaling_it_does():
    # Adam's step does not depend on the size of gradients; ε = 1e-8 is what they must be above, which 2^-20 of some
    # hundredths is not by much: the clean run learns slowly, and the one without gradients not at all.
    found = measure_precision(
        model(), rows(), dataclasses.replace(SETTINGS, static_scale=2.0**18),
        ["fp16", "fp16-static", "fp16-dynamic"], Faint(),
    )  # fmt: skip
    assert found.mode("fp32").departure is None
    plain, static, dynamic = (found.mode(name) for name in ("fp16", "fp16-static", "fp16-dynamic"))
    assert plain.departure is not None
    assert plain.departure.side == "above"
    assert static.departure is dynamic.departure is None
    assert plain.vanished > 0.5 > 0.1 > static.vanished
    assert plain.cosine is None or plain.cosine < 0.9
    assert static.cosine > 0.99
    assert found.window.least > 0
    assert abs(static.gap) < 0.1 * plain.gap


def test_without_master_weights_small_steps_are_lost_and_the_loss_stays_where_it_was():
    # Weights are near 0.02, so an update of 1e-6 is a 20,000th of one: below 2^-11 and 2^-8 of nearly all.
    settings = dataclasses.replace(SETTINGS, learning_rate=1e-6)
    found = measure_precision(model(), rows(), settings, ["bf16", "bf16-no-master", "fp16-dynamic-no-master"])
    assert found.lost_in("bfloat16").lost_share > found.lost_in("float16").lost_share > 0.5
    kept, lost, half = (found.mode(name) for name in ("bf16", "bf16-no-master", "fp16-dynamic-no-master"))
    assert kept.lost == {}
    total = sum(one.lost for one in lost.lost.values()) / sum(one.updates for one in lost.lost.values())
    assert total > 0.9
    assert half.lost.keys() == lost.lost.keys() >= {"embedding", "attention", "feed-forward", "norm"}
    # A norm's weights are 1 and the step 1e-6: every single update is lost.
    assert lost.lost["norm"].lost_share == half.lost["norm"].lost_share == 1.0
    moved = kept.measured[0] - kept.measured[-1]
    assert moved > 0
    assert abs(lost.measured[0] - lost.measured[-1]) < 0.7 * moved


def test_an_overflow_skips_the_step_and_halves_the_scale():
    settings = dataclasses.replace(SETTINGS, initial_scale=2.0**40, growth_interval=2, static_scale=2.0**40)
    found = measure_precision(model(), rows(), settings, ["fp16-dynamic", "fp16-static"])
    dynamic, static = found.mode("fp16-dynamic"), found.mode("fp16-static")
    assert static.overflows == tuple(range(1, 9))
    assert len(set(static.measured)) == 1
    assert dynamic.overflows[0] == 1
    assert (dynamic.vanished, dynamic.cosine) == (None, None)
    scales = [one.scale for one in dynamic.records]
    assert scales == [2.0 ** (40 - step) for step in range(8)]


def test_the_report_is_json_and_its_fp32_run_is_the_control():
    told: list[tuple[int, int]] = []
    found = measure_precision(
        model(), rows(), dataclasses.replace(SETTINGS, steps=3), ["bf16"], progress=lambda *at: told.append(at)
    )
    assert told == [(number, 15) for number in range(1, 16)]
    whole = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert [one["name"] for one in whole["modes"]] == ["fp32", "bf16"]
    assert whole["modes"][0]["gap"] == 0.0
    assert whole["modes"][0]["vanished_share"] == 0.0
    assert whole["modes"][0]["cosine"] == pytest.approx(1.0)
    assert {group["group"] for group in whole["gradients"]} == {
        "hidden states", "embedding", "attention", "feed-forward", "norm"
    }  # fmt: skip
    entries = {group["group"]: group["count"] for group in whole["gradients"]}
    # Three looks at one norm of 64 before each half of the layer and one at the end.
    assert entries["norm"] == 3 * 3 * 64
    # Four rows of 12 tokens, 64 wide, of one layer.
    assert entries["hidden states"] == 3 * 4 * 12 * 64


def test_what_gives_no_comparison_is_refused_in_one_line():
    policy, samples = model(), rows()
    for changes, field in (({"steps": 2}, "steps"), ({"orders": 1}, "orders"), ({"batch": 11}, "data")):
        with pytest.raises(UsageError, match=f"^{field}: "):
            measure_precision(policy, samples, dataclasses.replace(SETTINGS, **changes))
    torch.nn.init.constant_(policy.model.model.norm.weight, torch.nan)
    with pytest.raises(UsageError, match="not finite in fp32"):
        measure_precision(policy, samples, dataclasses.replace(SETTINGS, steps=3), ["bf16"])
