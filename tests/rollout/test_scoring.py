"""Sampler and trainer: rollouts from other weights and log-probs that disagree are seen in the metrics of the draw."""

from __future__ import annotations

import copy

import pytest
import torch

from trimpot.core.rows import Message, PromptRow
from trimpot.core.samples import Branch, Draw, Sample
from trimpot.core.tensors import Batch
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.scoring import same_weights, token_scores
from trimpot.rollout.source import RolloutSettings, RolloutSource, Sampling

ROWS = [PromptRow((Message("user", f"prompt {n}"),), "x") for n in range(4)]
DIFFERENCE = "sampling/sampling_logp_difference"


def copied(policy: Policy, dtype: torch.dtype = torch.float32) -> Policy:
    return Policy(copy.deepcopy(policy.model).to(dtype), policy.tokenizer, "copy")


def train_a_step(policy: Policy, size: float = 0.02) -> None:
    with torch.no_grad():
        for number, weight in enumerate(policy.model.parameters()):
            generator = torch.Generator().manual_seed(number)
            weight += size * torch.randn(weight.shape, generator=generator)


def source(policy: Policy, sampler: Policy | None = None, importance: str = "none") -> RolloutSource:
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(1.0, 8), 4, 128, sampler)
    scorers = {"old_logprob_N": lambda batch: policy.scores(batch).logprob_N}
    objective = GRPO(importance=importance)
    rewards = Rewards(None, {}, 1.0)
    return RolloutSource(policy, ROWS, sampling, RolloutSettings(group=4), objective, rewards, scorers, 0)


def values(draw: Draw) -> dict[str, float | None]:
    return {name: stat.value for name, stat in draw.stats.items()}


def test_bug_05_rollouts_from_the_wrong_weights() -> None:
    """unsloth PR#8701: the sampler goes on with the weights of an earlier step."""
    policy = tiny()
    stale = copied(policy)
    one = source(policy, stale)
    before = values(one.draw(1, {}))
    assert before["sampling/weights_match"] == 1.0
    assert before[f"{DIFFERENCE}/mean"] <= 1e-4
    train_a_step(policy)
    after = values(one.draw(2, {}))
    assert after["sampling/weights_match"] == 0.0
    assert after[f"{DIFFERENCE}/mean"] > 0.05
    assert after[f"{DIFFERENCE}/max"] > after[f"{DIFFERENCE}/mean"]


def test_bug_05_in_process_rollouts_follow_the_trainer() -> None:
    policy = tiny()
    one = source(policy, importance="truncate")
    first = one.draw(1, {})
    train_a_step(policy)
    again = one.draw(1, {})
    assert again != first
    assert values(again)["sampling/weights_match"] == 1.0
    assert values(again)[f"{DIFFERENCE}/mean"] <= 1e-4


def test_bug_06_sampler_and_trainer_log_probs_differ() -> None:
    """NeMo-RL#1801, #4243: the same weights in another number type give other log-probs; the reward does not say so."""
    policy = tiny()
    sampler = copied(policy, torch.bfloat16)
    stats = values(source(policy, sampler).draw(1, {}))
    assert stats["sampling/weights_match"] == 1.0
    assert stats[f"{DIFFERENCE}/mean"] > 3e-4
    same = values(source(policy, importance="mask").draw(1, {}))
    assert same[f"{DIFFERENCE}/mean"] <= 1e-5
    assert same[f"{DIFFERENCE}/max"] <= 1e-4


@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_the_smallest_change_of_one_weight_is_seen(size: float) -> None:
    policy = tiny()
    other = copied(policy)
    assert same_weights(other, policy)
    with torch.no_grad():
        list(other.model.parameters())[-2].view(-1)[7] += size
    assert same_weights(other, policy) == (size == 0.0)


def test_other_shapes_and_names_are_other_weights() -> None:
    assert not same_weights(tiny("0.5m"), tiny("0.1m"))
    assert not same_weights(tiny("0.1m", num_hidden_layers=1), tiny("0.1m"))


def test_token_scores_come_back_in_the_order_of_the_samples() -> None:
    """Packing sorts by size; equal row ids must not be taken for one another."""
    lengths = [3, 9, 1, 5, 7, 2]
    samples = [
        Sample("same", (1, 2), tuple(Branch((10 * n + k,) * length, (True,) * length) for k in range(2)))
        for n, length in enumerate(lengths)
    ]
    calls = []

    def tokens(batch: Batch) -> torch.Tensor:
        calls.append(batch)
        return batch.target_ids_N

    found = token_scores(samples, {"tokens": tokens, "twice": lambda batch: batch.target_ids_N * 2}, 20, "cpu")
    expected = [10 * n + k for n, length in enumerate(lengths) for k in range(2) for _ in range(length)]
    assert found["tokens"].tolist() == expected
    assert found["twice"].tolist() == [2 * value for value in expected]
    assert len(calls) > 2
    assert all(len(batch.ids_T) <= 20 for batch in calls)
    assert token_scores([], {"tokens": tokens}, 20, "cpu")["tokens"].tolist() == []
