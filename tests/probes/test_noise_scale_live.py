"""The live probe: it changes nothing, counts unequal parts rightly, and after a resume goes on as if unbroken."""

from __future__ import annotations

import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message, PreferencePair
from trimpot.core.samples import Draw, Sample
from trimpot.core.tensors import pack
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives import OBJECTIVES
from trimpot.probes.noise_scale_live import NoiseScaleProbe
from trimpot.probes.step import ComparesBatches, Recalls
from trimpot.probes.table import PROBES, build_probes
from trimpot.recipe.read import build_recipe
from trimpot.statistics.noise_scale import Moments, moments_from_parts, noise_scale
from trimpot.training.checkpoint import checkpoints, restore_checkpoint, save_checkpoint
from trimpot.training.loop import Plan, TrainState, accumulate, train
from trimpot.training.reference import reference_of
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings


def turn(role: str, text: str) -> tuple[Message, ...]:
    return (Message(role, text),)


CHATS = [ChatRow((*turn("user", f"say {n}"), *turn("assistant", "xyz" * n))) for n in (1, 4, 9, 2, 7, 3, 5, 8)]
PAIRS = [
    PreferencePair(turn("user", f"pick {n}"), turn("assistant", "yes" * n), turn("assistant", "no"))
    for n in (1, 2, 3, 4, 5, 6, 7, 8)
]
ROWS = {"sft": CHATS, "dpo": PAIRS}
TIMES = ("seconds", "draw_seconds", "tokens_per_second")


def samples(policy: Policy, objective: str) -> tuple[Sample, ...]:
    return tokenise(ROWS[objective], ChatTemplate(policy.tokenizer), 200).samples


def plan_for(policy: Policy, objective: str, **loop) -> Plan:
    settings = LoopSettings(**{"steps": 6, "batch": 4, "probe_every": 1, **loop})
    source = DatasetSource(samples(policy, objective), 4, 0)
    reference = reference_of(tiny("0.1m", seed=1)) if objective == "dpo" else None
    return Plan(OBJECTIVES[objective](), source, settings, OptimizerSettings(learning_rate=1e-3), reference)


def trained(objective: str, **loop) -> tuple[list[dict], torch.Tensor]:
    policy = tiny("0.1m")
    plan = plan_for(policy, objective, **loop)
    steps = [dict(step.metrics) for step in train(TrainState.new(policy, plan.optimizer), plan)]
    return steps, torch.cat([value.detach().flatten() for value in policy.trainable().values()])


def without_probe(metrics: dict) -> dict:
    return {name: value for name, value in metrics.items() if name not in TIMES and not name.startswith("noise_scale/")}


@pytest.mark.parametrize("objective", ["sft", "dpo"])
@pytest.mark.parametrize("budget", [10**6, 70])
def test_a_run_with_the_probe_is_bitwise_the_run_without(objective: str, budget: int) -> None:
    plain, weights = trained(objective, micro_batch_tokens=budget)
    probed, other = trained(objective, micro_batch_tokens=budget, probes=("noise_scale",))
    assert [without_probe(one) for one in probed] == [without_probe(one) for one in plain]
    assert torch.equal(weights, other)
    assert all(math.isfinite(one["noise_scale/trace"]) for one in probed)
    assert not any(name.startswith("noise_scale/") for one in plain for name in one)


def test_a_resumed_run_with_the_probe_is_bitwise_the_unbroken_one_metrics_of_the_probe_too(tmp_path) -> None:
    whole, weights = trained("sft", probes=("noise_scale",))
    policy = tiny("0.1m")
    plan = plan_for(policy, "sft", probes=("noise_scale",))
    state, log = TrainState.new(policy, plan.optimizer), []
    for step in train(state, plan):
        log.append({"step": step.number, **step.metrics})
        if step.number == 3:
            save_checkpoint(state, tmp_path, 1, {})
            break
    policy = tiny("0.1m", seed=5)
    plan = plan_for(policy, "sft", probes=("noise_scale",))
    state = TrainState.new(policy, plan.optimizer)
    restore_checkpoint(state, checkpoints(tmp_path)[-1], {})
    rest = [dict(step.metrics) for step in train(state, plan, log)]
    kept = [[{name: one[name] for name in one if name not in TIMES} for one in part] for part in (rest, whole[3:])]
    assert kept[0] == kept[1]
    assert kept[0][0]["noise_scale/simple"] is not None
    assert torch.equal(weights, torch.cat([value.detach().flatten() for value in policy.trainable().values()]))


def gradient_of(policy: Policy, chosen: list[Sample], plan: Plan, targets: int) -> torch.Tensor:
    """The gradient of some samples by themselves, of a loss divided by the target tokens of the step."""
    accumulate(policy, Draw(tuple(chosen)), plan)
    own = sum(sample.targets for sample in chosen)
    flat = torch.cat([value.grad.flatten() for value in policy.trainable().values()]).double() * own / targets
    for value in policy.trainable().values():
        value.grad = None
    return flat


@pytest.mark.parametrize("budget", [10**6, 70])
def test_the_look_is_that_of_the_parts_by_themselves(budget: int) -> None:
    policy = tiny("0.1m")
    plan = plan_for(policy, "sft", steps=1, batch=8, micro_batch_tokens=budget, probes=("noise_scale",))
    drawn = DatasetSource(samples(policy, "sft"), 8, 0).draw(1, {}).samples
    plan = Plan(plan.objective, DatasetSource(samples(policy, "sft"), 8, 0), plan.loop, plan.optimizer)
    if budget == 70:
        groups = [[one for one in drawn if one.row_id in batch.row_ids] for batch in pack(drawn, 70)]
        assert len({len(group) for group in groups}) > 1  # unequal
    else:
        groups = [list(drawn[:2]), list(drawn[2:])]  # a quarter by itself
    targets = sum(one.targets for one in drawn)
    alone = Plan(plan.objective, None, LoopSettings(micro_batch_tokens=10**6), plan.optimizer)
    parts = [gradient_of(policy, group, alone, targets) for group in groups]
    shares = [sum(one.targets for one in group) / targets for group in groups]
    norm = float(torch.stack(parts).sum(0).norm())
    hand = moments_from_parts([float(part.norm()) for part in parts], shares, norm, 8)
    (step,) = train(TrainState.new(policy, plan.optimizer), plan)
    assert step.metrics["noise_scale/trace"] == pytest.approx(hand.trace, rel=1e-3)
    assert step.metrics["noise_scale/squared_gradient"] == pytest.approx(hand.squared_gradient, rel=1e-3)
    assert step.metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_looks_come_at_the_interval_and_are_averaged_apart() -> None:
    steps, _ = trained("sft", probes=("noise_scale",), probe_every=2)
    looked = ["noise_scale/simple" in one for one in steps]
    assert looked == [True, False, True, False, True, False]
    looks = [
        Moments(one["noise_scale/squared_gradient"], one["noise_scale/trace"])
        for one in steps
        if "noise_scale/trace" in one
    ]
    found = noise_scale(looks).simple
    assert steps[4]["noise_scale/simple"] == pytest.approx(found.value)
    assert steps[4]["noise_scale/low"] == pytest.approx(found.low)
    assert steps[4]["noise_scale/over_batch"] == pytest.approx(found.value / 4)


def test_the_window_forgets_old_looks() -> None:
    probe = NoiseScaleProbe(every=1, window=2)
    for trace in (1000.0, 10.0, 30.0):
        probe.recall({"noise_scale/trace": trace, "noise_scale/squared_gradient": 2.0})
    probe.recall({"noise_scale/trace": math.nan, "noise_scale/squared_gradient": 2.0})
    probe.recall({"loss": 1.0})
    assert noise_scale(tuple(probe._looks)).simple.value == 10.0


def look(gradients: list[list[float]], shares: list[float], probe: NoiseScaleProbe | None = None) -> dict:
    """One look at a parameter whose micro-batches have these gradients."""
    probe = probe or NoiseScaleProbe()
    weight = torch.nn.Parameter(torch.zeros(len(gradients[0])))
    probe.begin(1, {"weight": weight})
    weight.grad = torch.zeros_like(weight)
    for gradient, share in zip(gradients, shares, strict=True):
        weight.grad += torch.tensor(gradient)
        probe.weigh(share)
        probe.after_batch(2)
    probe.before_update(1e-3)
    return dict(probe.after_update())


def test_a_look_by_hand() -> None:
    # u = (1, 0) and (1, 2), half each: g = (2, 2), q = 1/2, V = (1 + 5 − 8/2)/(1/2) = 4, |G|² = 8 − 4, S = 4·4.
    found = look([[1.0, 0.0], [1.0, 2.0]], [0.5, 0.5])
    assert found["noise_scale/squared_gradient"] == pytest.approx(4.0)
    assert found["noise_scale/trace"] == pytest.approx(16.0)
    assert found["noise_scale/simple"] == pytest.approx(4.0)
    assert found["noise_scale/over_batch"] == pytest.approx(1.0)
    assert found["noise_scale/high"] is None


def test_a_second_look_does_not_see_the_first() -> None:
    probe = NoiseScaleProbe()
    look([[5.0, 1.0], [2.0, 7.0]], [0.5, 0.5], probe)
    assert look([[1.0, 0.0], [1.0, 2.0]], [0.5, 0.5], probe)["noise_scale/trace"] == pytest.approx(16.0)


@pytest.mark.parametrize(
    ("gradients", "shares"), [([[1.0, 2.0]], [1.0]), ([[0.0], [0.0]], [0.5, 0.5]), ([[1.0], [math.nan]], [0.5, 0.5])]
)
def test_nothing_to_compare_gives_none_never_zero(gradients, shares) -> None:
    found = look(gradients, shares)
    assert len(found) == 6
    assert set(found.values()) == {None}


def test_idle_samples_have_a_share_and_no_gradient() -> None:
    assert look([[1.0, 0.0], [1.0, 2.0]], [0.2, 0.2])["noise_scale/trace"] == pytest.approx(16.0)


def test_a_step_of_one_sample_is_not_split_and_gives_none() -> None:
    policy = tiny("0.1m")
    plan = plan_for(policy, "sft", steps=1, probes=("noise_scale",))
    plan = Plan(plan.objective, DatasetSource(samples(policy, "sft")[:1], 1, 0), plan.loop, plan.optimizer)
    (step,) = train(TrainState.new(policy, plan.optimizer), plan)
    assert step.metrics["noise_scale/trace"] is None
    assert step.metrics["loss"] > 0


def test_the_probe_is_what_its_protocols_ask_for() -> None:
    (probe,) = build_probes(("noise_scale",), None, None)
    assert isinstance(probe, ComparesBatches)
    assert isinstance(probe, Recalls)
    assert probe.every == 10
    assert build_probes(("noise_scale",), 3, None)[0].every == 3


def recipe(**settings) -> object:
    return build_recipe({"model": "tiny-0.1m", "stages": [{"sft": {"data": "rows.jsonl", **settings}}]}, "r.yaml")


def test_a_recipe_names_probes_and_their_interval() -> None:
    loop = recipe(probes=["noise_scale"], probe_every=5).stages[0].get(LoopSettings)
    assert (loop.probes, loop.probe_every) == (("noise_scale",), 5)
    assert recipe().stages[0].get(LoopSettings).probes == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"probes": ["noise_scal"]}, "sft.probes: 'noise_scal' is not a probe. Did you mean 'noise_scale'?"),
        ({"probes": ["noise_scale", "noise_scale"]}, "sft.probes: 'noise_scale' is there twice. Name each probe once."),
        (
            {"probes": 3},
            "sft.probes: 3 is not of type list of texts. Give a value of that type.",
        ),
        ({"probe_every": 0}, "sft.probe_every: 0 is out of range. Give a value of at least 1."),
    ],
)
def test_a_bad_name_gives_one_line(settings, said: str) -> None:
    with pytest.raises(UsageError) as error:
        recipe(**settings)
    assert str(error.value) == said


def test_every_probe_of_the_table_is_named_in_the_setting() -> None:
    text = next(one for one in LoopSettings.__dataclass_fields__.values() if one.name == "probes").metadata["doc"]
    assert all(name in text for name in PROBES)
