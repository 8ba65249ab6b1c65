"""RewardModel: a trunk with a scalar head, read at the last token of every sequence or at the end of every step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from trimpot.core.tensors import Batch, Wanted
from trimpot.models.attention import plan_for, register
from trimpot.models.compatible import refuse_virtual_tokens
from trimpot.models.fused import fuse
from trimpot.models.policy import Policy, sliding_window
from trimpot.models.trunk import Trunk


@dataclass
class RewardModel:
    """transformers' sequence classification model with one label: exports and loads as a plain folder.

    Source: InstructGPT (arXiv 2203.02155, section 3.5): the reward is a linear function of the last token's state.
    A process reward model (arXiv 2305.20050) is the same model, read at the token that ends each step.
    """

    model: Any
    tokenizer: Any
    name: str
    adapters: Any = None
    trunk: Trunk = field(default_factory=Trunk, init=False)

    def __post_init__(self) -> None:
        self.model.set_attn_implementation(register())
        fuse(self.model)
        self.model.eval()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def scores_at(self, batch: Batch, places: Tensor) -> Tensor:
        """The head's output at these positions of the packed batch: as many numbers, float32."""
        plan = plan_for(batch, sliding_window(self.model.config))
        states_PH = self.trunk.hidden_at(self.model, batch.ids_T, batch.positions_T, plan, places)
        return self.model.score(states_PH).float()[:, 0]

    def rewards(self, batch: Batch) -> Tensor:
        """Batch with S sequences -> rewards [S], float32, in the model's own units (only differences mean anything)."""
        return self.scores_at(batch, self.places(batch, ("reward_S",)))

    def scores_of_steps(self, batch: Batch) -> Tensor:
        """The logit that each step is right, [N], float32: read at the targets, which are the steps' last tokens."""
        return self.scores_at(batch, self.places(batch, ("reward_N",)))

    def places(self, batch: Batch, needs: Sequence[str]) -> Tensor:
        """Where the head is read for the streams that are needed: at the ends of steps, else at those of sequences.

        Raises:
            ValueError: a target is the first token of its branch, so that no step stands before it.
        """
        if "reward_N" not in needs:
            return batch.last_token_S
        # A target stands behind the token it is predicted from, but for a branch's first one: that is predicted from
        # the prefix, behind which another branch may stand.
        firsts = batch.predict_from_N.new_tensor([document.prefix_stop - 1 for document in batch.documents])
        if bool(torch.isin(batch.predict_from_N, firsts).any()):
            raise ValueError("a step is read at the token that ends it, which cannot be the first of its branch")
        return batch.predict_from_N + 1

    def streams(self, batch: Batch, wanted: Wanted) -> dict[str, Tensor]:
        """The logits of steps where they are wanted, else the rewards of sequences, as streams of the loop."""
        if "reward_N" in wanted.needs:
            return {"reward_N": self.scores_of_steps(batch)}
        return {"reward_S": self.rewards(batch)}

    def models(self) -> dict[str, RewardModel]:
        """What a training stage writes, by folder."""
        return {"model": self}

    def trainable(self) -> dict[str, Tensor]:
        """The parameters that train, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}


def from_policy(policy: Policy) -> RewardModel:
    """A reward model on a copy of the policy's trunk; its head starts at zero, so all rewards are 0, the loss ln 2.

    Raises:
        UsageError: the policy has virtual tokens.
    """
    refuse_virtual_tokens("reward model", policy)
    config = copy.deepcopy(policy.model.config)
    config.num_labels, config.pad_token_id = 1, policy.tokenizer.pad_token_id
    model = AutoModelForSequenceClassification.from_config(config, dtype=policy.model.dtype)
    model.base_model.load_state_dict(policy.model.base_model.state_dict())
    model.to(policy.device)
    torch.nn.init.zeros_(model.score.weight)
    return RewardModel(model, policy.tokenizer, policy.name)
