"""Two models that read one batch must agree on what its tokens are: vocabulary and chat template."""

from __future__ import annotations

from typing import Any

from trimpot.core.errors import UsageError
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy


def refuse_other_tokens(where: str, tokenizer: Any, policy: Policy, called: str = "the policy") -> None:
    """Raises UsageError unless ``tokenizer`` has the policy's vocabulary and chat template.

    Args:
        where: what the other model is (critic, teacher), for the error line.
        called: what the policy is to it.

    Raises:
        UsageError: another number of tokens, other ids for them, or another template.
    Source: ours; LLaMA-Factory#2509 is what happens otherwise (26% in place of 57% right).
    """
    own, other = policy.tokenizer.get_vocab(), tokenizer.get_vocab()
    if len(own) != len(other):
        problem = f"has a vocabulary of {len(other)} tokens, {called} {len(own)}"
        raise UsageError(where, problem, f"Take a {where} made from the same base model.")
    if own != other:
        differ = sum(other.get(token) != index for token, index in own.items())
        problem = f"has other ids than {called} for {differ} of {len(own)} tokens"
        raise UsageError(where, problem, f"Take a {where} made from the same base model.")
    theirs, ours = ChatTemplate(tokenizer).hash, ChatTemplate(policy.tokenizer).hash
    if theirs != ours:
        problem = f"has another chat template (hash {theirs}) than {called} (hash {ours})"
        raise UsageError(where, problem, f"Give both the same template, or take another {where}.")


def refuse_virtual_tokens(where: str, policy: Policy) -> None:
    """Raises UsageError for a policy with virtual tokens, whose ids no other model has an embedding for."""
    refuse_virtual_count(where, len(policy.virtual_ids))


def refuse_virtual_count(where: str, count: int) -> None:
    """The same of a policy that is not there yet and will have so many virtual tokens."""
    if count:
        problem = f"the model has {count} virtual tokens, which a {where} cannot read"
        raise UsageError(where, problem, "Begin with a model without them, and use trainable: all, lora or last_k.")
