"""The divergence in chunks: the numbers and gradients of the whole, without the whole's logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trimpot.models.divergence import chunked_divergence
from trimpot.objectives.distill.gkd import GKD

N, H, TEACHER_H, V = 11, 5, 7, 13


def parts(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, generator=generator)

    return {
        "hidden": normal(N, H).requires_grad_(),
        "weight": normal(V, H).requires_grad_(),
        "bias": normal(V).requires_grad_(),
        "teacher_hidden": normal(N, TEACHER_H).requires_grad_(),
        "teacher_weight": normal(V, TEACHER_H).requires_grad_(),
        "teacher_bias": normal(V).requires_grad_(),
    }


def chunked(given: dict[str, Tensor], gkd: GKD, chunk: int) -> Tensor:
    return chunked_divergence(
        given["hidden"], (given["weight"], given["bias"]), given["teacher_hidden"],
        (given["teacher_weight"], given["teacher_bias"]), gkd.divergence, chunk,
    )  # fmt: skip


def whole(given: dict[str, Tensor], gkd: GKD) -> Tensor:
    teacher = given["teacher_hidden"] @ given["teacher_weight"].T + given["teacher_bias"]
    return gkd.divergence(given["hidden"] @ given["weight"].T + given["bias"], teacher.detach())


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("chunk", [1, 4, 256])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_value_and_gradient_equal_the_unchunked_ones(beta: float, chunk: int, dtype: torch.dtype, close: float) -> None:
    given, gkd = parts(dtype), GKD(beta, divergence_temperature=2.0)
    ours, theirs = chunked(given, gkd, chunk), whole(given, gkd)
    assert torch.allclose(ours, theirs, atol=close)
    weights = torch.linspace(0.5, 1.5, N, dtype=dtype)
    leaves = [given["hidden"], given["weight"], given["bias"]]
    ours_grad = torch.autograd.grad((weights * ours).mean(), leaves)
    theirs_grad = torch.autograd.grad((weights * theirs).mean(), leaves)
    for one, other in zip(ours_grad, theirs_grad, strict=True):
        assert other.abs().sum() > 0
        assert torch.allclose(one, other, atol=close, rtol=0)


def test_the_teacher_gets_no_gradient() -> None:
    given = parts()
    chunked(given, GKD(), 4).sum().backward()
    assert all(given[name].grad is None for name in given if name.startswith("teacher"))


def test_nothing_as_large_as_the_logits_is_kept() -> None:
    given = parts()
    kept: list[torch.Size] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    def logits_kept() -> bool:
        return any(len(shape) == 2 and shape[0] in (4, 3, N) and shape[1] == V for shape in kept)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        whole(given, GKD())
        assert logits_kept()  # the measurement sees them where they are
        kept.clear()
        chunked(given, GKD(), 4)
        assert not logits_kept()


def test_heads_of_different_height_are_cut_to_the_rows_both_have() -> None:
    given = parts()
    taller = {**given, "teacher_weight": torch.cat([given["teacher_weight"], torch.full((3, TEACHER_H), 9.0)])}
    taller["teacher_bias"] = torch.cat([given["teacher_bias"], torch.full((3,), 50.0)])
    assert torch.equal(chunked(taller, GKD(), 4), chunked(given, GKD(), 4))


def test_no_targets_and_no_gradients() -> None:
    given = parts()
    empty = {**given, "hidden": given["hidden"][:0], "teacher_hidden": given["teacher_hidden"][:0]}
    assert chunked(empty, GKD(), 4).shape == (0,)
    with torch.no_grad():
        assert torch.allclose(chunked(given, GKD(), 4), whole(given, GKD()))
