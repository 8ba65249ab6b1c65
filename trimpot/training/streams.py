"""The streams an objective asks for: the trainee's pass with gradients, the reference's without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from trimpot.core.tensors import Batch, Streams, Wanted
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.training.reference import Reference


class Trainee(Protocol):
    """What the loop trains: a policy, a reward model, a policy with its critic, a student with its teacher."""

    @property
    def device(self) -> torch.device: ...

    def trainable(self) -> dict[str, Tensor]:
        """The parameters that train, by name."""

    def streams(self, batch: Batch, wanted: Wanted) -> Mapping[str, Tensor]:
        """The streams this model makes of a packed batch, by the names of ``Streams``, with gradients."""

    def models(self) -> Mapping[str, Policy | RewardModel]:
        """What the stage leaves behind, by the name of its folder; ``model`` is what the next stage goes on with."""


MODEL_MADE_N = ("logprob_N", "reference_logprob_N", "value_N", "reward_N", "divergence_N")


def fixed_streams(batch: Batch) -> Streams:
    """The streams that do not depend on the model; what a model makes is zeros (for counting)."""
    zeros_N = torch.zeros(len(batch.target_ids_N), device=batch.ids_T.device)
    zeros_S = torch.zeros(batch.sequences, device=batch.ids_T.device)
    made = {name: zeros_N for name in (*MODEL_MADE_N, "sampler_logprob_N", "old_logprob_N")}
    found: dict[str, Any] = {**made, "reward_S": zeros_S, **batch.streams}
    return Streams(batch.sequence_N, batch.sequences, **found)


def compute_streams(
    trainee: Trainee, batch: Batch, wanted: Wanted, reference: Reference | None, step: Mapping[str, float]
) -> Streams:
    """Runs the passes that are wanted: the trainee's with gradients, the reference's without.

    Streams that the batch brings along (a rollout's reference log-probs) are not computed again.
    """
    made = dict(trainee.streams(batch, wanted))
    if reference is not None and "reference_logprob_N" in wanted.needs and "reference_logprob_N" not in batch.streams:
        made["reference_logprob_N"] = reference(batch)
    found: dict[str, Any] = {**made, **batch.streams}
    return Streams(batch.sequence_N, batch.sequences, step=step, **found)
