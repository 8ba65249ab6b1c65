"""The packed forward against transformers' padded forward, on four architectures; head and gradients."""

from __future__ import annotations

import random

import pytest
import torch

from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import Batch, pack, pack_one
from trimpot.models import attention
from trimpot.models.head import target_scores
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny

ARCHITECTURES = ["llama", "qwen3", "gemma", "gpt2", "mistral"]


def some_samples(seed: int = 0) -> list[Sample]:
    source = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(source.randrange(250) for _ in range(count))

    return [
        Sample("plain", (), (Branch(tokens(9), (False,) * 3 + (True,) * 6),)),
        Sample("pair", tokens(7), (Branch(tokens(5), (True,) * 5), Branch(tokens(3), (True,) * 3))),
        Sample("group", tokens(4), tuple(Branch(tokens(n), (False,) + (True,) * (n - 1)) for n in (6, 2, 8))),
        Sample("one token prefix", tokens(1), (Branch(tokens(3), (True,) * 3),)),
    ]


def padded_logprobs(policy: Policy, samples: list[Sample]) -> torch.Tensor:
    """Every sequence on its own, right-padded into one batch, through the stock implementation."""
    policy.model.set_attn_implementation("sdpa")
    rows = [sample.prefix + branch.ids for sample in samples for branch in sample.branches]
    width = max(map(len, rows))
    ids = torch.tensor([row + (0,) * (width - len(row)) for row in rows])
    mask = torch.tensor([(1,) * len(row) + (0,) * (width - len(row)) for row in rows])
    logprobs = policy.model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    found, row = [], 0
    for sample in samples:
        for branch in sample.branches:
            for offset, supervised in enumerate(branch.supervised):
                if supervised:
                    place = len(sample.prefix) + offset
                    found.append(logprobs[row, place - 1, rows[row][place]])
            row += 1
    policy.model.set_attn_implementation(attention.IMPLEMENTATION)
    return torch.stack(found)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logprobs_and_gradients_equal_the_padded_forward(architecture: str) -> None:
    policy, samples = tiny("0.1m", architecture), some_samples()
    parameters = list(policy.model.parameters())
    packed = policy.scores(pack_one(samples)).logprob_N
    expected = padded_logprobs(policy, samples)
    assert (packed - expected).abs().max() <= 1e-5
    ours = torch.autograd.grad(packed.square().sum(), parameters)
    stock = torch.autograd.grad(expected.square().sum(), parameters)
    for one, other in zip(ours, stock, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max() + 1e-12))


def test_documents_do_not_see_each_other() -> None:
    policy, samples = tiny("0.1m"), some_samples()
    alone = policy.scores(pack_one(samples[1:2])).logprob_N
    together = policy.scores(pack_one(samples)).logprob_N[6:14]
    assert (alone - together).abs().max() <= 1e-5


def test_sliding_window_equals_transformers() -> None:
    policy, samples = tiny("0.1m", "mistral", sliding_window=4), some_samples()
    assert (policy.scores(pack_one(samples)).logprob_N - padded_logprobs(policy, samples)).abs().max() <= 1e-5


def test_variable_length_kernel_gets_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA path's gathering of keys, run here on a kernel written out on the CPU (bottom-right causal)."""

    def kernel(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_q: torch.Tensor, cu_k: torch.Tensor,
        max_q: int, max_k: int, *, scale: float | None, window_size: tuple[int, int], enable_gqa: bool,
    ) -> torch.Tensor:  # fmt: skip
        assert window_size == (-1, 0)
        outputs = []
        for i in range(len(cu_q) - 1):
            one = [t[a:b].transpose(0, 1) for t, a, b in ((q, cu_q[i], cu_q[i + 1]), (k, cu_k[i], cu_k[i + 1]))]
            value = v[cu_k[i] : cu_k[i + 1]].transpose(0, 1)
            rows, keys = one[0].shape[1], one[1].shape[1]
            assert rows <= max_q
            assert keys <= max_k
            mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
            options = {"attn_mask": mask, "scale": scale, "enable_gqa": enable_gqa}
            outputs.append(torch.nn.functional.scaled_dot_product_attention(*one, value, **options))
        return torch.cat(outputs, 1).transpose(0, 1)

    policy, batch = tiny("0.1m"), pack_one(some_samples())
    expected = policy.scores(batch).logprob_N
    monkeypatch.setattr(attention, "variable_length_kernel", lambda query: kernel)
    assert (policy.scores(batch).logprob_N - expected).abs().max() <= 1e-5


def test_micro_batches_hold_every_sample_once_and_respect_the_budget() -> None:
    samples = some_samples() * 5
    batches = pack(samples, 60)
    assert sorted(row for batch in batches for row in batch.row_ids) == sorted(sample.row_id for sample in samples)
    assert all(len(batch.ids_T) <= 60 for batch in batches)
    assert len(batches) > 1


@pytest.mark.parametrize("keep", [0, 2**30])
def test_head_gradients_in_float64(monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    from trimpot.models import head

    monkeypatch.setattr(head, "CHUNK", 3)
    monkeypatch.setattr(head, "KEEP_BYTES", keep)
    torch.manual_seed(0)
    hidden = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(11, dtype=torch.float64, requires_grad=True)
    target = torch.randint(11, (7,))
    assert torch.autograd.gradcheck(lambda h, w, b: target_scores(h, w, b, target, 0.7)[0], (hidden, weight, bias))
    logits = (hidden @ weight.T + bias) / 0.7
    logprob, entropy, correct = target_scores(hidden, weight, bias, target, 0.7)
    assert torch.allclose(logprob, logits.log_softmax(1)[range(7), target])
    assert torch.allclose(entropy, torch.distributions.Categorical(logits=logits).entropy())
    assert torch.equal(correct, logits.argmax(1) == target)


def test_a_packed_model_called_the_stock_way_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="set_attn_implementation"):
        tiny("0.1m").model(torch.tensor([[1, 2, 3]]))


def test_prompt_tokens_get_no_loss_gradient_path() -> None:
    """The input embedding of an unsupervised token's successor is untouched when nothing after it is a target."""
    policy = tiny("0.1m", tie_word_embeddings=False)
    batch: Batch = pack_one([Sample("a", (), (Branch((5, 6, 7, 8), (False, True, False, False)),))])
    policy.scores(batch).logprob_N.sum().backward()
    gradient = policy.model.get_input_embeddings().weight.grad
    assert gradient[5].abs().sum() > 0
    assert gradient[[6, 7, 8]].abs().sum() == 0
