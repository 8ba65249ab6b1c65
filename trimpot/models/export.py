"""Export: a plain transformers folder that loads without trimpot; virtual tokens lie in it as peft writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trimpot.data.template import ChatTemplate
from trimpot.models import quantised, virtual_tokens
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.store.atomic import atomic_folder

TEMPLATE = "chat_template_hash"
"""The key of the template's hash in a model's configuration."""


def export(policy: Policy | RewardModel, folder: Path) -> None:
    """Writes model, tokenizer and chat template to ``folder``, atomically; the config holds the template's hash.

    Adapters are merged into the weights for good, and a base in 4 bits becomes plain weights of the same values, in the
    policy too: what was training trains no further, and ``choose_trainable`` starts anew. All else stays as it was:
    weights that train and virtual tokens may go on. The latter go to the folder ``virtual_tokens`` within.
    """
    merge_adapters(policy)
    model = policy.model
    setattr(model.config, TEMPLATE, ChatTemplate(policy.tokenizer).hash)
    virtual = virtual_tokens.kind_of(model) is not None
    with atomic_folder(folder) as temporary:
        state = {name: value for name, value in model.state_dict().items() if not name.startswith("virtual_tokens.")}
        model.save_pretrained(temporary, state_dict=state)
        policy.tokenizer.save_pretrained(temporary)
        if virtual:
            virtual_tokens.write(model, temporary / virtual_tokens.FOLDER, base=str(folder.resolve()))


def template_of(model: Any) -> str | None:
    """The hash of the chat template that a model was trained with; None for a model that trimpot did not write."""
    found: str | None = getattr(model.config, TEMPLATE, None)
    return found


def merge_adapters(policy: Policy | RewardModel) -> None:
    """Leaves a model of plain weights: adapters added to them, 4-bit weights put back at full width first.

    peft merges into a 4-bit layer by rounding the sum to 4 bits again, which would lose most of what was learned.
    """
    if quantised.is_quantised(policy.model):
        if policy.adapters is None:
            quantised.dequantise(policy.model)
        else:
            policy.adapters = _on_plain_weights(policy.adapters)
    if policy.adapters is not None:
        policy.model = policy.adapters.merge_and_unload()
        policy.adapters = None


def _on_plain_weights(adapters: Any) -> Any:
    """The same adapters on the dequantised base."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config, state = adapters.active_peft_config, get_peft_model_state_dict(adapters)
    base = adapters.unload()
    quantised.dequantise(base)
    plain = get_peft_model(base, config)
    set_peft_model_state_dict(plain, state)
    base.eval()
    return plain
