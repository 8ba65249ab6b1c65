"""Checks leave weights, gradients, flags, random states and the working folder as they found them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.preflight import bench
from trimpot.preflight.check import Built, Check, Deadline, Found
from trimpot.preflight.run import run_checks
from trimpot.preflight.table import CHECKS


def state(one: Built) -> dict[str, Any]:
    model = one.trainee.models()["model"].model
    return {
        "weights": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "flags": {name: value.requires_grad for name, value in model.named_parameters()},
        "gradients": {name: value.grad is None for name, value in model.named_parameters()},
        "modes": [module.training for module in model.modules()],
        "hooks": sum(len(module._forward_hooks) for module in model.modules()),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
    }


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in one["weights"].items():
        assert torch.equal(value, other["weights"][name]), name
    assert torch.equal(one["torch"], other["torch"])
    for key in ("flags", "gradients", "modes", "hooks", "numpy", "python"):
        assert one[key] == other[key], key


@pytest.mark.parametrize("kind", ["sft", "preference", "reward"])
def test_all_checks_leave_everything_as_it_was(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage = bench.built(kind)
    before = state(stage)
    for check in CHECKS.values():
        run_checks(stage, [check])
        assert_equal(before, state(stage))
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_raises_half_way_leaves_everything_as_it_was() -> None:
    def spoil(built: Built, deadline: Deadline) -> Found:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        model = built.trainee.models()["model"].model
        model.train()
        for value in model.parameters():
            value.requires_grad_(False)
            value.fill_(1.0)
        raise RuntimeError("half way")

    stage = bench.built("sft")
    before = state(stage)
    check = Check("spoil", "?", "-", 5, "-.", spoil, trains=True)
    (result,) = run_checks(stage, [check])
    assert (result.status, result.text) == ("failed", "raised RuntimeError: half way")
    assert_equal(before, state(stage))
