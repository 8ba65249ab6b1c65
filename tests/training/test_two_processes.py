"""One step in one process and in two: the same loss, counts and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as processes

from trimpot.core.rows import ChatRow, Message, PreferencePair
from trimpot.core.samples import Draw
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.tiny import tiny
from trimpot.objectives import OBJECTIVES
from trimpot.training.loop import Plan, accumulate
from trimpot.training.reference import reference_of
from trimpot.training.settings import LoopSettings, OptimizerSettings


def _turn(role: str, text: str) -> tuple[Message, ...]:
    return (Message(role, text),)


def one_step(objective: str) -> tuple[float, torch.Tensor, dict[str, float]]:
    policy = tiny("0.1m")
    if objective == "sft":
        rows = [ChatRow((Message("user", f"say {n}"), Message("assistant", "x" * n))) for n in (1, 4, 9, 2, 5)]
    else:
        rows = [
            PreferencePair(_turn("user", f"pick {n}"), _turn("assistant", "yes" * n), _turn("assistant", "no"))
            for n in (1, 2, 3, 4, 5)
        ]
    draw = Draw(tokenise(rows, ChatTemplate(policy.tokenizer), 200).samples)
    reference = reference_of(tiny("0.1m", seed=1))
    plan = Plan(OBJECTIVES[objective](), None, LoopSettings(), OptimizerSettings(), reference)
    stats, losses = accumulate(policy, draw, plan)
    gradient = torch.cat([value.grad.flatten() for value in policy.trainable().values()])
    return losses["loss"], gradient, {name: stat.value for name, stat in stats.items()}


def _process(rank: int, file: str, objective: str, results) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    loss, gradient, stats = one_step(objective)
    results[rank] = (loss, gradient.tolist(), stats)
    distributed.destroy_process_group()


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_two_processes_give_the_gradient_of_one(objective, tmp_path) -> None:
    loss, gradient, stats = one_step(objective)
    manager = processes.get_context("spawn").Manager()
    results = manager.dict()
    processes.spawn(_process, (str(tmp_path / "meet"), objective, results), nprocs=2)
    for rank in (0, 1):
        other_loss, other_gradient, other_stats = results[rank]
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert (torch.tensor(other_gradient) - gradient).norm() <= 1e-5 * gradient.norm()
        assert other_stats == pytest.approx(stats, rel=1e-4, abs=1e-6)
