"""The fused layers: their values are transformers', their gradients those of autograd."""

import copy

import pytest
import torch
from torch.nn.functional import silu

from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.models import fused
from trimpot.models.tiny import tiny

BATCH = pack_one([Sample(str(n), (5, 6), (Branch(tuple(range(7, 7 + n)), (True,) * n),)) for n in (3, 8, 1)])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)


def test_the_norm() -> None:
    x, weight = random(4, 6), random(6, seed=1)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    assert (fused._RootMeanSquareNorm.apply(x, weight, 1e-5) - expected).abs().max() <= 1e-12
    assert torch.autograd.gradcheck(lambda *inputs: fused._RootMeanSquareNorm.apply(*inputs, 1e-5), (x, weight))


def test_the_gated_unit() -> None:
    gate, up = random(4, 6), random(4, 6, seed=1)
    assert (fused._GatedUnit.apply(gate, up) - silu(gate) * up).abs().max() <= 1e-12
    assert torch.autograd.gradcheck(fused._GatedUnit.apply, (gate, up))


def test_the_rotation() -> None:
    x, angle = random(4, 2, 6), torch.arange(12, dtype=torch.float64).reshape(4, 1, 3)
    rotated = fused._Rotation.apply(x, angle.cos(), angle.sin())
    pairs, turned = torch.complex(*x.chunk(2, -1)), torch.complex(*rotated.chunk(2, -1))
    assert (turned - pairs * torch.polar(torch.ones_like(angle), angle)).abs().max() <= 1e-12
    assert torch.autograd.gradcheck(lambda x: fused._Rotation.apply(x, angle.cos(), angle.sin()), (x,))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_a_model_scores_and_learns_as_before(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pass_through(policy):
        logprobs = policy.scores(BATCH).logprob_N
        return logprobs, torch.autograd.grad(logprobs.sum(), list(policy.trainable().values()))

    with monkeypatch.context() as patch:
        patch.setattr(fused, "FORWARDS", {})
        plain = tiny("0.1m", family)
    policy = tiny("0.1m", family)
    assert sum("forward" in vars(module) for module in policy.model.modules()) == 2 * 4 + 1
    assert not any("forward" in vars(module) for module in plain.model.modules())
    (expected, gradients), (found, others) = pass_through(plain), pass_through(policy)
    assert (found - expected).abs().max() <= 1e-5
    for gradient, other in zip(gradients, others, strict=True):
        assert (gradient - other).norm() <= 1e-5 * gradient.norm()


def test_a_copy_computes_on_its_own_weights() -> None:
    policy = tiny("0.1m")
    before = policy.scores(BATCH).logprob_N
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for value in other.model.parameters():
            value.zero_()
    assert torch.equal(policy.scores(BATCH).logprob_N, before)
    assert not torch.equal(other.scores(BATCH).logprob_N, before)


def test_a_plain_call_of_the_model_still_works() -> None:
    policy = tiny("0.1m")
    ids = torch.tensor([[5, 6, 7, 8]])
    policy.model.set_attn_implementation("sdpa")
    logits = policy.model(ids).logits
    policy.model.set_attn_implementation("eager")
    assert (policy.model(ids).logits - logits).abs().max() <= 1e-5
    assert policy.model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] >= 5
