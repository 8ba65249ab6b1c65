"""What trains: all weights, LoRA adapters, the last layers, a reward head, or virtual tokens; chosen by one field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from trimpot.core.errors import UsageError
from trimpot.core.seeds import seed_for
from trimpot.core.settings import setting
from trimpot.models import quantised, virtual_tokens
from trimpot.models.decoder import decoder_layers
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class TrainableSettings:
    """Which weights train."""

    trainable: str = setting(
        "all",
        "all weights, lora adapters, the last layers, a reward model's head alone, or virtual tokens before every"
        " sequence (prompt: their embeddings, prefix: their keys and values)",
        choices=("all", "lora", "last_k", "head", "prompt", "prefix"),
    )
    lora_rank: int = setting(16, "rank of the adapters", "peft's examples; TRL scripts use 16 to 32", at_least=1)
    lora_alpha: float = setting(
        32.0, "scale of the adapters, multiplied by alpha / rank (rslora: alpha / √rank)", "TRL scripts", above=0
    )
    lora_targets: str = setting(
        ALL_LINEAR, "all-linear, or names of linear modules with commas between", "QLoRA (arXiv 2305.14314, figure 2)"
    )
    dora: bool = setting(False, "learn the length of each output's weights apart from their direction", "peft")
    rslora: bool = setting(False, "scale adapters by 1 / √rank instead of 1 / rank", "peft")
    last_layers: int = setting(2, "layers that train with trainable: last_k", "Raschka 2023: last two", at_least=1)
    virtual_tokens: int = setting(
        20,
        "virtual tokens of trainable: prompt or prefix",
        "Lester et al. 2021 (arXiv 2104.08691): 20 to 100",
        at_least=1,
    )
    quantise: str = setting(
        "none", "keep the frozen base in 4 bits (nf4) while it trains", "peft and TRL: off", choices=("none", "nf4")
    )


def check_trainable(settings: TrainableSettings, reward_model: bool = False) -> None:
    """Raises UsageError for settings that contradict each other."""
    chosen = settings.trainable
    if settings.quantise != "none" and chosen in ("all", "last_k"):
        problem = f"{settings.quantise} freezes the weights that trainable: {chosen} trains"
        raise UsageError("quantise", problem, "Use trainable: lora, or quantise: none.")
    for name in ("dora", "rslora"):
        if getattr(settings, name) and chosen != "lora":
            raise UsageError(
                name, f"is a form of LoRA, and trainable is {chosen}", "Use trainable: lora, or leave it out."
            )
    if settings.lora_targets != ALL_LINEAR and chosen != "lora":
        raise UsageError(
            "lora_targets", f"is LoRA's, and trainable is {chosen}", "Use trainable: lora, or leave it out."
        )
    if reward_model and chosen in virtual_tokens.KINDS:
        problem = f"{chosen}: a reward model has no virtual tokens"
        raise UsageError("trainable", problem, "Use all, lora, last_k or head.")
    if not reward_model and chosen == "head":
        raise UsageError("trainable", "head: only a reward model has a head of its own", "Use all, lora or last_k.")


def check_on(policy: Policy | RewardModel, settings: TrainableSettings) -> None:
    """Whether these settings can be had of this model; it is left as it is, and nothing new is made.

    Raises:
        UsageError: more last layers than the model has, unknown target modules, a base that cannot be had in 4 bits.
    """
    if settings.trainable == "lora":
        lora_targets(policy, settings.lora_targets)
    elif settings.trainable == "last_k":
        _last_layers(policy, settings.last_layers)
    if settings.quantise == "nf4":
        quantised.refuse_quantising(policy.model)


def choose_trainable(policy: Policy | RewardModel, settings: TrainableSettings, seed: int = 0) -> None:
    """Marks the parameters that train and adds those that are new; a reward model's head always trains.

    Adapters and virtual tokens are initialised from the streams ``adapters`` and ``virtual tokens`` of ``seed``.
    A policy that has virtual tokens goes on with them. A base in 4 bits stays so until ``export``.

    Raises:
        UsageError: more last layers than the model has, unknown target modules, settings that contradict each other or
            the virtual tokens that are there, bitsandbytes missing.
    Source: LoRA (arXiv 2106.09685), DoRA (2402.09353), rsLoRA (2312.03732), QLoRA (2305.14314), through peft.
    """
    check_trainable(settings, isinstance(policy, RewardModel))
    policy.model.requires_grad_(settings.trainable == "all")
    targets = lora_targets(policy, settings.lora_targets) if settings.trainable == "lora" else []
    if settings.quantise == "nf4":
        quantised.quantise(policy.model)
    if settings.trainable == "lora":
        _add_lora(policy, settings, targets, seed)
    elif settings.trainable == "last_k":
        for layer in _last_layers(policy, settings.last_layers):
            layer.requires_grad_(True)
    elif settings.trainable in virtual_tokens.KINDS:
        _train_virtual_tokens(policy, settings, seed)
    if isinstance(policy, RewardModel):
        policy.model.score.requires_grad_(True)


def lora_targets(policy: Policy | RewardModel, wanted: str) -> list[str]:
    """The names of the modules that get adapters. ``all-linear``: every linear module of the trunk, by its last name.

    Raises:
        UsageError: a name that no linear module of the trunk has. (Not the output head: log-probs read its weight.)
    """
    paths = [
        name for name, module in policy.model.base_model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)
    ]
    known = sorted({path.rpartition(".")[2] for path in paths})
    if wanted == ALL_LINEAR:
        return known
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if not any(f".{path}".endswith(f".{name}") for path in paths)]
    if unknown or not names:
        problem = f"no linear module is called {', '.join(unknown)}" if unknown else "names no module"
        raise UsageError("lora_targets", problem, f"Use {ALL_LINEAR} or some of: {', '.join(known)}.")
    return names


def _add_lora(policy: Policy | RewardModel, settings: TrainableSettings, targets: list[str], seed: int) -> None:
    from peft import LoraConfig, get_peft_model

    config: Any = LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=targets, lora_dropout=0.0,
        use_dora=settings.dora, use_rslora=settings.rslora,
    )  # fmt: skip
    # peft draws the initial adapters from torch's global generators, which are left as they were.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed_for(seed, "adapters"))
        policy.adapters = get_peft_model(policy.model, config)
    policy.model.eval()


def _last_layers(policy: Policy | RewardModel, count: int) -> list[torch.nn.Module]:
    layers = decoder_layers(policy.model.base_model)
    if count > len(layers):
        problem = f"{count} layers asked for, the model has {len(layers)}"
        raise UsageError("last_layers", problem, f"Give at most {len(layers)}, or trainable: all.")
    return layers[-count:]


def refuse_other_virtual_tokens(settings: TrainableSettings, kind: str, count: int) -> None:
    """Raises UsageError for virtual tokens of another kind or number than the ``count`` that the model has."""
    if (kind, count) != (settings.trainable, settings.virtual_tokens):
        problem = f"the model already has {count} virtual tokens of {kind} tuning"
        raise UsageError("trainable", problem, "Go on with the same kind and number, or use lora.")


def _train_virtual_tokens(policy: Policy | RewardModel, settings: TrainableSettings, seed: int) -> None:
    model, kind, count = policy.model, settings.trainable, settings.virtual_tokens
    there = virtual_tokens.kind_of(model)
    if there is None:
        virtual_tokens.add(model, policy.tokenizer, kind, count, seed)
    else:
        refuse_other_virtual_tokens(settings, there, len(virtual_tokens.virtual_ids(model)))
    model.virtual_tokens.requires_grad_(True)
