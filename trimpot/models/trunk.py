"""How a trunk runs: plainly, with its layers computed again in the backward pass, or from kept states of frozen layers.

Shape suffixes: T packed tokens, P places, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trimpot.models.attention import AttentionPlan, PackedPlan
from trimpot.models.decoder import decoder_layers, replaced_forwards
from trimpot.models.frozen_trunk import FrozenTrunk
from trimpot.models.recompute import recomputed


@dataclass
class Trunk:
    """The way from packed tokens to the trunk's last hidden states; the fields change its cost, not its result.

    ``recompute``: activations are dropped and computed again (only in passes with gradients). ``frozen``: rows it
    knows start at the first layer that trains; others run through.
    """

    recompute: bool = False
    frozen: FrozenTrunk | None = None

    def hidden(self, model: Any, inputs: dict[str, Tensor], positions_T: Tensor, plan: AttentionPlan) -> Tensor:
        """The last hidden states of packed tokens, [T, H]. ``inputs``: see ``virtual_tokens.forward_inputs``."""
        forwards: dict[nn.Module, Callable[..., Any]] = {}
        if self.recompute and torch.is_grad_enabled():
            forwards = recomputed(decoder_layers(model.base_model))
        if self.frozen is not None and not self.frozen.whole and isinstance(plan, PackedPlan):
            states_TH = self.frozen.states(inputs["input_ids"][0], positions_T)
            if states_TH is not None:
                for layer in decoder_layers(model.base_model)[: self.frozen.layer]:
                    forwards[layer] = _giving(states_TH[None])
        with replaced_forwards(forwards):
            output = model.base_model(**inputs, position_ids=positions_T[None], use_cache=False, attention_plan=plan)
        return output.last_hidden_state[0]

    def hidden_at(
        self, model: Any, ids_T: Tensor, positions_T: Tensor, plan: AttentionPlan, places_P: Tensor
    ) -> Tensor:
        """The last hidden states at these places of packed tokens, [P, H]."""
        if self.frozen is not None and self.frozen.whole:
            states_PH = self.frozen.states(ids_T, positions_T, places_P)
            if states_PH is not None:
                return states_PH
        return self.hidden(model, {"input_ids": ids_T[None]}, positions_T, plan)[places_P]


def _giving(states: Tensor) -> Callable[..., Tensor]:
    return lambda *_, **__: states
