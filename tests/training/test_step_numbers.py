"""Statistics of a whole step before its loss, and numbers carried from step to step through a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from trimpot.core.rows import ChatRow, Message
from trimpot.core.samples import Draw
from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.tiny import tiny
from trimpot.training.checkpoint import restore_checkpoint, save_checkpoint
from trimpot.training.loop import Plan, TrainState, accumulate, train
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings


@dataclass(frozen=True)
class AboveTheMean:
    """(log-prob − the step's mean log-prob)², and a count of steps: an objective that uses both protocols."""

    name: ClassVar[str] = "above_the_mean"
    stage: ClassVar[str] = "sft"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N",)

    def step_statistics(self, streams: Streams) -> dict[str, Stat]:
        return {"mean": stat(streams.logprob_N)}

    def initial(self) -> dict[str, float]:
        return {"steps_seen": 0.0}

    def carry(self, carried, metrics) -> dict[str, float]:
        return {"steps_seen": carried["steps_seen"] + 1}

    def __call__(self, streams: Streams) -> LossOut:
        centred = streams.logprob_N - streams.step.get("mean", 0.0)
        return LossOut((Term("squares", 1.0, centred.square().sum(), float(len(centred))),), {})


def samples(policy):
    rows = [ChatRow((Message("user", f"say {n}"), Message("assistant", "x" * n))) for n in (1, 4, 9, 2)]
    return tokenise(rows, ChatTemplate(policy.tokenizer), 200).samples


@pytest.mark.parametrize("budget", [10**6, 60, 1])
def test_step_statistics_are_of_the_whole_step(budget) -> None:
    policy = tiny("0.1m")
    plan = Plan(AboveTheMean(), None, LoopSettings(micro_batch_tokens=budget), OptimizerSettings())
    _, losses = accumulate(policy, Draw(samples(policy)), plan)
    (logprob_N,) = [policy.scores(batch).logprob_N for batch in [_one_batch(policy)]]
    expected = (logprob_N - logprob_N.mean()).square().mean()
    assert losses["loss"] == pytest.approx(expected.item(), rel=1e-5)
    ours = torch.cat([value.grad.flatten() for value in policy.trainable().values()])
    # The mean is a number: no gradient flows through it.
    theirs = torch.autograd.grad(
        (logprob_N - logprob_N.mean().detach()).square().mean(), list(policy.trainable().values())
    )
    assert (ours - torch.cat([one.flatten() for one in theirs])).norm() <= 1e-4 * ours.norm()


def _one_batch(policy):
    from trimpot.core.tensors import pack_one

    return pack_one(samples(policy))


def test_carried_numbers_survive_a_checkpoint(tmp_path) -> None:
    policy = tiny("0.1m")
    source = DatasetSource(samples(policy), 2, 0)
    plan = Plan(AboveTheMean(), source, LoopSettings(steps=3), OptimizerSettings())
    state = TrainState.new(policy, plan.optimizer)
    seen = [step.metrics["steps_seen"] for step in train(state, plan)]
    assert seen == [0.0, 1.0, 2.0]
    saved = save_checkpoint(state, tmp_path, 1, {})
    fresh = TrainState.new(tiny("0.1m"), plan.optimizer)
    restore_checkpoint(fresh, saved, {})
    assert fresh.carried == {"steps_seen": 3.0}
    longer = Plan(AboveTheMean(), source, LoopSettings(steps=4), OptimizerSettings())
    assert next(train(fresh, longer)).metrics["steps_seen"] == 3.0


def test_factors_scale_the_learning_rate_of_named_parameters() -> None:
    policy = tiny("0.1m")
    before = {name: value.detach().clone() for name, value in policy.trainable().items()}
    factors = {next(iter(before)): 0.0}
    plan = Plan(
        AboveTheMean(),
        DatasetSource(samples(policy), 4, 0),
        LoopSettings(steps=1),
        OptimizerSettings(learning_rate=1e-3),
    )
    list(train(TrainState.new(policy, plan.optimizer, factors), plan))
    moved = {name for name, value in policy.trainable().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(next(iter(factors))) for name in moved)
    assert moved
