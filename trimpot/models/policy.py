"""Policy: a language model with its tokenizer and template, as a function from a packed Batch to log-probs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trimpot.core.hashing import bytes_hash
from trimpot.core.tensors import Batch, Wanted
from trimpot.models import virtual_tokens
from trimpot.models.attention import AttentionPlan, plan_for, register
from trimpot.models.fused import fuse
from trimpot.models.head import target_scores
from trimpot.models.trunk import Trunk


@dataclass(frozen=True)
class TokenScores:
    """Per target: log-prob (with gradient), entropy of the distribution it was predicted by, was it the most likely.

    Shapes: all [N]. Units: nats.
    """

    logprob_N: Tensor
    entropy_N: Tensor
    correct_N: Tensor


@dataclass
class Policy:
    """A causal language model that scores packed batches.

    ``adapters`` is the peft model when LoRA is on: its reference is the same model with the adapters switched off.
    Virtual tokens (prompt and prefix tuning) are parameters of ``model``; every sequence opens with ``virtual_ids``.
    ``name`` is what the user called it. Dropout is off in training too, as log-probs of two passes must agree.
    """

    model: Any
    tokenizer: Any
    name: str
    adapters: Any = None
    trunk: Trunk = field(default_factory=Trunk, init=False)
    _trunk_window: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.model.set_attn_implementation(register())
        fuse(self.model)
        self.model.eval()
        self._trunk_window = sliding_window(self.model.config)
        refuse_unsupported_head(self.model.config)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def virtual_ids(self) -> tuple[int, ...]:
        """What every sequence must open with: the ids of the virtual tokens; empty without prompt or prefix tuning."""
        return virtual_tokens.virtual_ids(self.model)

    def hidden(self, ids_T: Tensor, positions_T: Tensor, plan: AttentionPlan) -> Tensor:
        """The trunk's last hidden states of packed tokens: [T], [T] -> [T, H]."""
        inputs, plan = virtual_tokens.forward_inputs(self.model, ids_T, positions_T, plan)
        return self.trunk.hidden(self.model, inputs, positions_T, plan)

    def head(self) -> tuple[Tensor, Tensor | None]:
        """Weight [V, H] and bias [V] (or None) of the output embedding."""
        layer = self.model.get_output_embeddings()
        return layer.weight, getattr(layer, "bias", None)

    def scores(self, batch: Batch, temperature: float = 1.0) -> TokenScores:
        """Log-probs, entropy and correctness of every target of a packed batch.

        Source: equals log_softmax(logits / temperature) of the padded transformers forward within 1e-5 (fp32).
        """
        virtual_tokens.refuse_virtual_predictors(self.model, batch.ids_T[batch.predict_from_N])
        plan = plan_for(batch, self._trunk_window)
        hidden_TH = self.hidden(batch.ids_T, batch.positions_T, plan)
        weight, bias = self.head()
        return TokenScores(
            *target_scores(hidden_TH[batch.predict_from_N], weight, bias, batch.target_ids_N, temperature)
        )

    def streams(self, batch: Batch, wanted: Wanted) -> dict[str, Tensor]:
        """The scores of a batch as streams of the loop (see Streams)."""
        scores = self.scores(batch, wanted.temperature)
        return {"logprob_N": scores.logprob_N, "entropy_N": scores.entropy_N, "correct_N": scores.correct_N}

    @contextlib.contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Within it the policy is its own reference: LoRA's adapters are switched off.

        Edge cases: without LoRA there is nothing to switch off, and a reference needs a frozen copy (virtual tokens
        too, as the model without them reads other sequences).
        """
        with self.adapters.disable_adapter():
            yield

    def models(self) -> dict[str, Policy]:
        """What a training stage writes, by folder."""
        return {"model": self}

    def trainable(self) -> dict[str, Tensor]:
        """The parameters that train, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def weights_hash(self) -> str:
        """A hash of all weights' bytes: the identity of this checkpoint."""
        state = self.model.state_dict()
        return bytes_hash(
            chunk
            for name in sorted(state)
            for chunk in (
                name.encode(),
                state[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data,
            )
        )


def sliding_window(config: Any) -> int | None:
    """The width of a model's attention window in tokens, None when it sees everything.

    Raises:
        ValueError: layers with and without a window are mixed (Gemma 2, 3), which one plan cannot serve.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window is None or getattr(config, "use_sliding_window", True) is False or kinds == {"full_attention"}:
        return None
    if len(kinds) > 1:
        raise ValueError(f"{config.model_type}: layers with and without a sliding window are mixed: not supported")
    return int(window)


def refuse_unsupported_head(config: Any) -> None:
    """Raises ValueError for output heads that do more than a linear map (soft cap, logit scale)."""
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(f"{config.model_type}: {name} in the output head is not supported by the packed forward")
