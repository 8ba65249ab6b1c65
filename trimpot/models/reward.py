"""RewardModel: a trunk with a scalar head, read at the last token of every sequence."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from trimpot.core.tensors import Batch
from trimpot.models.attention import plan_for, register
from trimpot.models.policy import Policy, sliding_window


@dataclass
class RewardModel:
    """transformers' sequence classification model with one label: exports and loads as a plain folder.

    Source: InstructGPT (arXiv 2203.02155, section 3.5): the reward is a linear function of the last token's state.
    """

    model: Any
    tokenizer: Any
    name: str
    adapters: Any = None

    def __post_init__(self) -> None:
        self.model.set_attn_implementation(register())
        self.model.eval()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def rewards(self, batch: Batch) -> Tensor:
        """Batch with S sequences -> rewards [S], float32, in the model's own units (only differences mean anything)."""
        trunk = self.model.base_model
        plan = plan_for(batch, sliding_window(self.model.config))
        output = trunk(
            input_ids=batch.ids_T[None], position_ids=batch.positions_T[None], use_cache=False, attention_plan=plan
        )
        return self.model.score(output.last_hidden_state[0, batch.last_token_S]).float()[:, 0]

    def trainable(self) -> dict[str, Tensor]:
        """The parameters that train, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}


def from_policy(policy: Policy) -> RewardModel:
    """A reward model on a copy of the policy's trunk; its head starts at zero, so all rewards are 0, the loss ln 2."""
    config = copy.deepcopy(policy.model.config)
    config.num_labels, config.pad_token_id = 1, policy.tokenizer.pad_token_id
    model = AutoModelForSequenceClassification.from_config(config, dtype=policy.model.dtype)
    model.base_model.load_state_dict(policy.model.base_model.state_dict())
    model.to(policy.device)
    torch.nn.init.zeros_(model.score.weight)
    return RewardModel(model, policy.tokenizer, policy.name)
