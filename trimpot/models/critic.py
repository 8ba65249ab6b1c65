"""A critic beside the policy: the value of every state, from a trunk of its own.

Shape suffixes: N targets.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.tensors import Batch, Wanted
from trimpot.models.compatible import refuse_other_tokens, refuse_virtual_tokens
from trimpot.models.export import merge_adapters
from trimpot.models.policy import Policy
from trimpot.models.quantised import is_quantised
from trimpot.models.reward import RewardModel, from_policy


@dataclass(frozen=True)
class CriticSettings:
    """Where the critic comes from and how fast it learns."""

    critic: str | None = setting(
        None,
        "the reward model it begins as: stage:NAME or a folder; default: a copy of the policy's trunk, its head zero",
        "verl: the policy's path; InstructGPT (arXiv 2203.02155, appendix C) begins with the reward model",
    )
    critic_learning_rate_factor: float = setting(
        10.0,
        "the critic's learning rate as a multiple of the policy's",
        "verl: 1e-5 against 1e-6; OpenRLHF: 9e-6 against 5e-7, which is 18",
        above=0,
    )


@dataclass
class Critic:
    """Predicts the return from each state on; ``model`` is the trunk with its scalar head, all of which trains."""

    model: RewardModel

    def values(self, batch: Batch) -> Tensor:
        """value_N [N], float32, in the reward's units: V of the state before target n, read where n is predicted from.

        Source: PPO as in arXiv 2203.02155; the state before a token excludes it, so a value is a baseline for it.
        """
        return self.model.scores_at(batch, batch.predict_from_N)


def critic_from_policy(policy: Policy) -> Critic:
    """A critic on its own copy of the policy's trunk; its head starts at zero, so every value is 0.

    Adapters are merged into the copy and 4-bit weights put back at full width: all of the critic trains.

    Raises:
        UsageError: the policy has virtual tokens.
    """
    refuse_virtual_tokens("critic", policy)
    if policy.adapters is None and not is_quantised(policy.model):
        return Critic(from_policy(policy))
    plain = copy.deepcopy(policy)
    merge_adapters(plain)
    return Critic(from_policy(plain))


def critic_from(model: RewardModel, policy: Policy) -> Critic:
    """A critic that begins as a reward model; the model becomes the critic, it is not copied.

    Raises:
        UsageError: it has another vocabulary or chat template than the policy, or the policy has virtual tokens.
    """
    refuse_virtual_tokens("critic", policy)
    refuse_other_tokens("critic", model.tokenizer, policy)
    model.model.requires_grad_(True)
    return Critic(model)


@dataclass
class ActorCritic:
    """A policy that trains with its critic; they share no weights."""

    policy: Policy
    critic: Critic

    @property
    def device(self) -> torch.device:
        return self.policy.device

    def trainable(self) -> dict[str, Tensor]:
        """The policy's parameters under their own names, the critic's under ``critic.<name>``."""
        own = {f"critic.{name}": value for name, value in self.critic.model.trainable().items()}
        return {**self.policy.trainable(), **own}

    def streams(self, batch: Batch, wanted: Wanted) -> dict[str, Tensor]:
        """The policy's streams, and value_N where it is wanted."""
        made = self.policy.streams(batch, wanted)
        if "value_N" in wanted.needs:
            made["value_N"] = self.critic.values(batch)
        return made

    def models(self) -> dict[str, Policy | RewardModel]:
        """What a training stage writes, by folder."""
        return {"model": self.policy, "critic": self.critic.model}
