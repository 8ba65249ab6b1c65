"""Export: a plain transformers folder that loads without trimpot."""

from __future__ import annotations

from pathlib import Path

from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.store.atomic import atomic_folder


def export(policy: Policy | RewardModel, folder: Path) -> None:
    """Writes model, tokenizer and chat template to ``folder``, atomically. LoRA adapters are merged into the weights
    for good: the policy trains no further.
    """
    if policy.adapters is not None:
        policy.model = policy.adapters.merge_and_unload()
        policy.adapters = None
    with atomic_folder(folder) as temporary:
        policy.model.save_pretrained(temporary)
        policy.tokenizer.save_pretrained(temporary)
