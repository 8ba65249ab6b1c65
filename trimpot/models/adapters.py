"""What trains: all weights, LoRA adapters, or the last layers; chosen by one field."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import setting
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel


@dataclass(frozen=True)
class TrainableSettings:
    """Which weights train."""

    trainable: str = setting("all", "all weights, lora adapters, or the last layers", choices=("all", "lora", "last_k"))
    lora_rank: int = setting(16, "rank of the adapters", "peft's examples; TRL scripts use 16 to 32", at_least=1)
    lora_alpha: float = setting(32.0, "scale of the adapters; alpha / rank multiplies them", "TRL scripts", above=0)
    last_layers: int = setting(2, "layers that train with trainable: last_k", "Raschka 2023: last two", at_least=1)


def choose_trainable(policy: Policy | RewardModel, settings: TrainableSettings) -> None:
    """Marks the parameters that train, wrapping the model in adapters for LoRA. A reward model's head always trains.

    Raises:
        UsageError: more last layers than the model has.
    """
    parameters = dict(policy.model.named_parameters())
    if settings.trainable == "lora":
        _add_lora(policy, settings)
    else:
        for value in parameters.values():
            value.requires_grad_(settings.trainable == "all")
    if settings.trainable == "last_k":
        layers = decoder_layers(policy)
        if settings.last_layers > len(layers):
            raise UsageError(
                "last_layers",
                f"{settings.last_layers} layers asked for, the model has {len(layers)}",
                f"Give at most {len(layers)}, or trainable: all.",
            )
        for layer in layers[-settings.last_layers :]:
            layer.requires_grad_(True)
    if isinstance(policy, RewardModel):
        policy.model.score.requires_grad_(True)


def _add_lora(policy: Policy | RewardModel, settings: TrainableSettings) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules="all-linear", lora_dropout=0.0
    )
    policy.adapters = get_peft_model(policy.model, config)
    policy.model.eval()


def decoder_layers(policy: Policy | RewardModel) -> list[torch.nn.Module]:
    """The decoder's blocks, first to last: the longest module list of the trunk."""
    lists = [list(found) for found in policy.model.base_model.modules() if isinstance(found, torch.nn.ModuleList)]
    return max(lists, key=len)
