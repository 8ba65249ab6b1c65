"""The critic: where it reads, where it comes from, what it refuses, and that it trains beside the policy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import Wanted, pack_one
from trimpot.models import reward
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.critic import ActorCritic, Critic, critic_from, critic_from_policy
from trimpot.models.export import export
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny

BATCH = pack_one(
    [
        Sample("a", (1, 2, 3), (Branch((4, 5), (True, True)), Branch((6,), (True,)))),
        Sample("b", (), (Branch((7, 8, 9), (False, True, True)),)),
    ]
)
BEFORE = [(1, 2, 3), (1, 2, 3, 4), (1, 2, 3), (7,), (7, 8)]
"""What stands before each of the batch's targets."""


def with_random_head(critic: Critic) -> Critic:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.nn.init.normal_(critic.model.model.score.weight)
    return critic


def values_before(critic: Critic) -> list[float]:
    """The plain transformers classifier, read at the last token of what stands before each target."""
    plain = critic.model.model
    plain.set_attn_implementation("sdpa")
    with torch.no_grad():
        return [plain(torch.tensor([ids])).logits[0, 0].item() for ids in BEFORE]


def test_a_new_critic_values_every_state_at_zero_and_shares_nothing_with_the_policy() -> None:
    policy = tiny()
    critic = critic_from_policy(policy)
    assert torch.equal(critic.values(BATCH), torch.zeros(5))
    assert critic.values(BATCH).dtype == torch.float32
    own = {value.data_ptr() for value in critic.model.trainable().values()}
    assert not own & {value.data_ptr() for value in policy.trainable().values()}


def test_a_value_is_of_the_state_before_its_token() -> None:
    critic = with_random_head(critic_from_policy(tiny()))
    values = critic.values(BATCH).tolist()
    assert values == pytest.approx(values_before(critic), abs=1e-5)
    assert values[0] == pytest.approx(values[2], abs=1e-6)  # two branches begin in one state


@pytest.mark.parametrize("quantise", ["none", "nf4"])
def test_under_lora_the_critic_is_a_whole_model_that_trains(quantise: str) -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings("lora", lora_rank=2, quantise=quantise))
    with torch.no_grad():
        for name, value in policy.trainable().items():
            if "lora_B" in name:
                value.normal_()
    before = policy.scores(BATCH).logprob_N
    critic = with_random_head(critic_from_policy(policy))
    assert torch.equal(policy.scores(BATCH).logprob_N, before)
    assert not any("lora" in name for name in critic.model.trainable())
    hidden = policy.model.base_model(
        input_ids=torch.tensor([BEFORE[1]]), attention_plan=_plan(BEFORE[1]), use_cache=False
    ).last_hidden_state[0, -1]
    assert critic.values(BATCH)[1].item() == pytest.approx(
        (critic.model.model.score.weight[0] @ hidden).item(), abs=1e-4
    )


def _plan(ids: tuple[int, ...]):
    from trimpot.models.attention import plan_for

    return plan_for(pack_one([Sample("x", (), (Branch(ids, (False,) * len(ids)),))]))


def test_a_reward_model_becomes_the_critic_with_its_own_values() -> None:
    policy = tiny()
    judge = reward.from_policy(policy)
    torch.nn.init.normal_(judge.model.score.weight)
    judge.model.requires_grad_(False)
    critic = critic_from(judge, policy)
    assert critic.values(BATCH).tolist() == pytest.approx(values_before(critic), abs=1e-5)
    assert all(value.requires_grad for value in critic.model.model.parameters())


def test_a_critic_of_another_vocabulary_is_refused_in_one_line() -> None:
    policy, other = tiny(), tiny(seed=1)
    other.tokenizer.add_tokens(["wider"])
    with pytest.raises(UsageError, match=r"^critic: has a vocabulary of 260 tokens, the policy 259\. Take") as caught:
        critic_from(reward.from_policy(other), policy)
    assert "\n" not in str(caught.value)


def test_a_critic_with_other_ids_is_refused() -> None:
    policy, other = tiny(), tiny(seed=1)
    policy.tokenizer.add_tokens(["ant", "bee"])
    other.tokenizer.add_tokens(["bee", "ant"])
    with pytest.raises(UsageError, match="critic: has other ids than the policy for 2 of 261 tokens"):
        critic_from(reward.from_policy(other), policy)


def test_a_critic_with_another_template_is_refused() -> None:
    policy, other = tiny(), tiny(seed=1)
    other.tokenizer.chat_template = other.tokenizer.chat_template.replace("assistant", "model")
    with pytest.raises(UsageError, match="critic: has another chat template"):
        critic_from(reward.from_policy(other), policy)


def test_a_policy_with_virtual_tokens_has_no_critic() -> None:
    policy = tiny()
    choose_trainable(policy, TrainableSettings("prompt", virtual_tokens=3))
    with pytest.raises(UsageError, match="critic: the model has 3 virtual tokens"):
        critic_from_policy(policy)
    with pytest.raises(UsageError, match="reward model: the model has 3 virtual tokens"):
        reward.from_policy(policy)


def test_actor_critic_makes_values_where_they_are_wanted_and_names_its_parameters() -> None:
    policy = tiny()
    both = ActorCritic(policy, critic_from_policy(policy))
    assert set(both.streams(BATCH, Wanted(("logprob_N",)))) == {"logprob_N", "entropy_N", "correct_N"}
    streams = both.streams(BATCH, Wanted(("logprob_N", "value_N")))
    assert streams["value_N"].shape == (5,)
    names, own = set(both.trainable()), set(policy.trainable())
    assert own < names
    assert {name for name in names if name.startswith("critic.")} == names - own
    assert "critic.score.weight" in names


def test_gradients_of_the_value_loss_reach_the_critic_only() -> None:
    policy = tiny()
    both = ActorCritic(policy, with_random_head(critic_from_policy(policy)))
    both.streams(BATCH, Wanted(("logprob_N", "value_N")))["value_N"].square().sum().backward()
    assert all(value.grad is None for value in policy.trainable().values())
    assert all(value.grad is not None for value in both.critic.model.trainable().values())


def test_the_stage_leaves_policy_and_critic_as_plain_folders(tmp_path: Path) -> None:
    policy = tiny()
    both = ActorCritic(policy, with_random_head(critic_from_policy(policy)))
    models = both.models()
    assert list(models) == ["model", "critic"]
    assert isinstance(models["model"], Policy)
    export(models["critic"], tmp_path / "critic")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "critic")
    logit = plain(torch.tensor([BEFORE[1]])).logits[0, 0].item()
    assert logit == pytest.approx(both.critic.values(BATCH)[1].item(), abs=1e-5)


def test_training_raises_the_explained_variance() -> None:
    critic = critic_from_policy(tiny())
    target = torch.tensor([1.0, 2.0, 1.0, -1.0, 0.0])
    optimizer = torch.optim.AdamW(critic.model.trainable().values(), lr=1e-2)
    for _ in range(60):
        loss = (critic.values(BATCH) - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05
