"""The probes of a run as the loop calls them: the order of calls, what each sees, and several processes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as processes

from trimpot.core.rows import ChatRow, Message
from trimpot.core.samples import Draw
from trimpot.core.tensors import LossOut, Term
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.tiny import tiny
from trimpot.objectives import OBJECTIVES
from trimpot.probes.noise_scale_live import NoiseScaleProbe
from trimpot.statistics.noise_scale import moments_from_parts
from trimpot.training.gradients import KeptGradients
from trimpot.training.looks import Looks, share_of
from trimpot.training.loop import Plan, accumulate
from trimpot.training.settings import LoopSettings, OptimizerSettings


class Plain:
    """Writes down what it is called with."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.calls: list[tuple] = []
        self.parameters: Mapping[str, torch.Tensor] = {}

    def _norm(self) -> float:
        grads = [value.grad for value in self.parameters.values() if value.grad is not None]
        return float(torch.stack([grad.norm() for grad in grads]).norm()) if grads else 0.0

    def begin(self, step, parameters) -> None:
        self.parameters = parameters
        self.calls.append(("begin", step, round(self._norm(), 9)))

    def after_batch(self, samples) -> None:
        self.calls.append(("after_batch", samples))
        self.norm = self._norm()

    def before_update(self, learning_rate) -> None:
        self.calls.append(("before_update", learning_rate))

    def after_update(self) -> Mapping[str, float | None]:
        self.calls.append(("after_update",))
        return {f"plain/{self.every}": 1.0}


class Comparing(Plain):
    part = 0.5

    def weigh(self, share) -> None:
        self.calls.append(("weigh", round(share, 9)))


def one_step(*probes, budget=10**6, count=4):
    policy = tiny("0.1m")
    rows = [ChatRow((Message("user", f"say {n}"), Message("assistant", "x" * n))) for n in (1, 4, 9, 2)][:count]
    draw = Draw(tokenise(rows, ChatTemplate(policy.tokenizer), 200).samples)
    plan = Plan(OBJECTIVES["sft"](), None, LoopSettings(micro_batch_tokens=budget), OptimizerSettings())
    looks = Looks(probes, policy.trainable())
    with KeptGradients(policy.trainable().values()) as kept:
        accumulate(policy, draw, plan, 1, {}, kept, looks)
        looks.before_update(0.1)
        metrics = looks.after_update()
    targets = [one.targets for one in draw.samples]
    return metrics, targets, torch.cat([value.grad.flatten() for value in policy.trainable().values()])


def test_a_plain_probe_sees_the_step_alone_even_beside_one_that_compares_parts() -> None:
    plain, comparing = Plain(), Comparing()
    metrics, targets, gradient = one_step(plain, comparing)
    assert plain.calls == [("begin", 1, 0.0), ("after_batch", 4), ("before_update", 0.1), ("after_update",)]
    share = sum(targets[:2]) / sum(targets)
    assert comparing.calls == [
        ("begin", 1, 0.0), ("weigh", round(share, 9)), ("after_batch", 2), ("weigh", round(1 - share, 9)),
        ("after_batch", 2), ("before_update", 0.1), ("after_update",),
    ]  # fmt: skip
    assert plain.norm == pytest.approx(float(gradient.norm()), rel=1e-4)
    assert metrics == {"plain/1": 1.0}
    assert torch.equal(gradient, one_step()[2])


def test_several_micro_batches_are_the_parts_and_nothing_runs_twice() -> None:
    comparing = Comparing()
    one_step(comparing, budget=60)
    counts = [call[1] for call in comparing.calls if call[0] == "after_batch"]
    shares = [call[1] for call in comparing.calls if call[0] == "weigh"]
    assert len(counts) > 1
    assert sum(counts) == 4
    assert math.fsum(shares) == pytest.approx(1)


def test_one_sample_is_not_split() -> None:
    comparing = Comparing()
    one_step(comparing, count=1)
    assert [call for call in comparing.calls if call[0] == "after_batch"] == [("after_batch", 1)]


@pytest.mark.parametrize(
    ("part", "samples", "expected"), [(0.25, 8, 2), (0.25, 1, 0), (0.25, 2, 1), (0.01, 4, 1), (0.99, 4, 3)]
)
def test_a_part_is_at_least_one_sample_and_not_all(part: float, samples: int, expected: int) -> None:
    probe = Comparing()
    probe.part = part
    looks = Looks((probe,), {})
    looks.begin(1)
    assert looks.part_of(samples) == expected


def test_each_probe_looks_at_its_own_interval() -> None:
    often, rarely = Plain(1), Plain(3)
    looks = Looks((often, rarely), {})
    seen = []
    for step in range(1, 6):
        looks.begin(step)
        looks.begin_others(step)
        seen.append(set(looks.after_update()))
    both = {"plain/1", "plain/3"}
    assert seen == [both, {"plain/1"}, {"plain/1"}, both, {"plain/1"}]


def term(name: str, weight: float, count: float) -> Term:
    return Term(name, weight, torch.zeros(()), count)


def test_the_share_of_a_batch_is_the_mean_over_terms_by_their_weight() -> None:
    out = LossOut((term("a", 1.0, 30), term("b", -3.0, 5), term("none", 9.0, 0)), {})
    # 30/120 with weight 1, 5/10 with weight 3.
    assert share_of(out, {"a": 120, "b": 10, "none": 0}) == pytest.approx((0.25 + 3 * 0.5) / 4)
    assert share_of(LossOut((), {}), {}) == 0.0


def look() -> dict:
    """The noise probe's look at one step."""
    return dict(one_step(NoiseScaleProbe())[0])


def _process(rank: int, file: str, results) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    results[rank] = look()
    distributed.destroy_process_group()


def test_the_processes_of_a_run_are_its_parts(tmp_path) -> None:
    results = processes.get_context("spawn").Manager().dict()
    processes.spawn(_process, (str(tmp_path / "meet"), results), nprocs=2)
    assert dict(results[0]) == pytest.approx(dict(results[1]), nan_ok=True)
    # By hand: process 0 has samples 0 and 2, process 1 has 1 and 3.
    policy = tiny("0.1m")
    rows = [ChatRow((Message("user", f"say {n}"), Message("assistant", "x" * n))) for n in (1, 4, 9, 2)]
    samples = tokenise(rows, ChatTemplate(policy.tokenizer), 200).samples
    targets = sum(one.targets for one in samples)
    plan = Plan(OBJECTIVES["sft"](), None, LoopSettings(), OptimizerSettings())
    parts, shares = [], []
    for own in (samples[0::2], samples[1::2]):
        accumulate(policy, Draw(own), plan)
        shares.append(sum(one.targets for one in own) / targets)
        grads = [value.grad.flatten() for value in policy.trainable().values()]
        parts.append(torch.cat(grads).double() * shares[-1])
        policy.model.zero_grad(set_to_none=True)
    norms = [float(part.norm()) for part in parts]
    hand = moments_from_parts(norms, shares, float((parts[0] + parts[1]).norm()), 4)
    assert results[0]["noise_scale/trace"] == pytest.approx(hand.trace, rel=1e-3)
    assert results[0]["noise_scale/squared_gradient"] == pytest.approx(hand.squared_gradient, rel=1e-3)
