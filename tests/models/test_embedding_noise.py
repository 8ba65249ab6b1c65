"""NEFTune: the size of the noise, whose it is, and that it stands in training passes only."""

from __future__ import annotations

import math

import pytest
import torch

from trimpot.core.samples import Branch, Sample
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Batch, Wanted, pack, pack_one
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.noise import NoiseSettings, NoisyPolicy
from trimpot.models.tiny import tiny

SAMPLES = [
    Sample("a", (1, 2, 3), (Branch((4, 5), (True, True)), Branch((6, 7), (False, True)))),
    Sample("b", (), (Branch(tuple(range(7, 47)), (False, *(True,) * 39)),)),
    Sample("c", (1,), (Branch((8, 9), (True, True)),)),
]
BATCH = pack_one(SAMPLES)
HIDDEN = 64


def wanted(step: int) -> Wanted:
    return Wanted(("logprob_N",), step=step)


def logprobs(noisy: NoisyPolicy, batch: Batch, step: int) -> torch.Tensor:
    return noisy.streams(batch, wanted(step))["logprob_N"].detach()


def test_noise_is_uniform_within_alpha_over_the_root_of_length_times_hidden() -> None:
    noise = NoisyPolicy(tiny(), 5.0, 0).noise(BATCH, 1, HIDDEN)
    for start, stop in ((0, 7), (7, 47), (47, 50)):
        size = 5.0 / math.sqrt((stop - start) * HIDDEN)
        part = noise[start:stop]
        assert part.abs().max() <= size
        assert part.abs().max() > 0.9 * size
        assert abs(part.mean().item()) < 0.2 * size
        assert part.square().mean().item() == pytest.approx(size**2 / 3, rel=0.2)


def test_the_pass_sees_embeddings_plus_noise() -> None:
    policy = tiny()
    noisy, seen = NoisyPolicy(policy, 5.0, 0), []
    # transformers' layers come after the embedding: their first input is what it gave.
    hook = policy.model.base_model.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    policy.streams(BATCH, wanted(3))
    noisy.streams(BATCH, wanted(3))
    hook.remove()
    assert torch.allclose(seen[1] - seen[0], noisy.noise(BATCH, 3, HIDDEN), atol=1e-6)


def test_noise_is_the_rows_own_whatever_it_is_packed_with() -> None:
    noisy = NoisyPolicy(tiny(), 10.0, 0)
    whole = dict(zip(BATCH.row_ids, _by_row(BATCH, logprobs(noisy, BATCH, 4)), strict=True))
    for batch in pack(SAMPLES[::-1], 45):
        for row, values in zip(batch.row_ids, _by_row(batch, logprobs(noisy, batch, 4)), strict=True):
            assert torch.allclose(values, whole[row], atol=1e-5)


def _by_row(batch: Batch, values_N: torch.Tensor) -> list[torch.Tensor]:
    lengths = torch.bincount(batch.sequence_N, minlength=batch.sequences)
    starts, parts, at = 0, [], 0
    for branches in batch.branches_per_row:
        size = int(lengths[at : at + branches].sum())
        parts.append(values_N[starts : starts + size])
        starts, at = starts + size, at + branches
    return parts


def test_noise_changes_with_step_and_seed_and_not_with_the_time_of_asking() -> None:
    policy = tiny()
    noisy = NoisyPolicy(policy, 10.0, 0)
    first = logprobs(noisy, BATCH, 1)
    torch.rand(5)
    assert torch.equal(first, logprobs(NoisyPolicy(policy, 10.0, 0), BATCH, 1))  # as after a resume
    assert not torch.equal(first, logprobs(noisy, BATCH, 2))
    assert not torch.equal(first, logprobs(NoisyPolicy(policy, 10.0, 1), BATCH, 1))


def test_no_other_pass_has_noise() -> None:
    policy = tiny()
    clean = policy.scores(BATCH).logprob_N
    noisy = NoisyPolicy(policy, 10.0, 0)
    assert (logprobs(noisy, BATCH, 1) - clean).abs().max() > 1e-4
    assert torch.equal(policy.scores(BATCH).logprob_N, clean)
    assert noisy.models() == {"model": policy}


def test_the_noise_is_gone_after_a_pass_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny()
    clean = policy.scores(BATCH).logprob_N
    with pytest.raises(AttributeError):
        NoisyPolicy(policy, 10.0, 0).streams(None, wanted(1))
    assert torch.equal(policy.scores(BATCH).logprob_N, clean)


@pytest.mark.parametrize("trainable", ["all", "lora", "prompt", "prefix"])
def test_it_trains_with_every_trainable_set(trainable: str) -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings(trainable, lora_rank=2, virtual_tokens=2))
    lead = policy.virtual_ids
    batch = pack_one([Sample("b", (), (Branch((*lead, 7, 8, 9), (False,) * (len(lead) + 1) + (True, True)),))])
    noisy = NoisyPolicy(policy, 10.0, 0)
    assert not torch.equal(logprobs(noisy, batch, 1), policy.scores(batch).logprob_N)
    noisy.streams(batch, wanted(1))["logprob_N"].sum().backward()
    assert noisy.trainable().keys() == policy.trainable().keys()
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in noisy.trainable().values())


def test_alpha_of_zero_is_no_noise_and_a_negative_one_is_refused() -> None:
    policy = tiny()
    assert torch.equal(logprobs(NoisyPolicy(policy, 0.0, 0), BATCH, 1), policy.scores(BATCH).logprob_N)
    with pytest.raises(Exception, match="neftune_alpha"):
        check_settings(NoiseSettings(-1.0), "sft")
