"""What a draw is scored by before it is trained on: passes without gradient, and whether the weights agree.

Shape suffix: N supervised tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trimpot.core.samples import Sample
from trimpot.core.tensors import Batch, pack
from trimpot.models.policy import Policy

Scorer = Callable[[Batch], Tensor]
"""One number per target of a packed batch, [N]."""


@torch.no_grad()
def token_scores(
    samples: Sequence[Sample], scorers: Mapping[str, Scorer], token_budget: int, device: str
) -> dict[str, Tensor]:
    """Every scorer's numbers for all supervised tokens, in the order of the samples, on the CPU.

    The samples are packed once, in micro-batches of ``token_budget`` tokens.

    Shapes: each [N], N the supervised tokens of all samples.
    Edge cases: no sample: empty tensors.
    """
    parts: dict[str, list[Tensor]] = {name: [torch.zeros(0)] * len(samples) for name in scorers}
    # Packing changes the order; a row may be there twice, so samples go by their place, not by their row.
    numbered = [replace(sample, row_id=str(place)) for place, sample in enumerate(samples)]
    for batch in pack(numbered, token_budget, device) if scorers and samples else ():
        places = [int(place) for place in batch.row_ids]
        lengths = [samples[place].targets for place in places]
        for name, scorer in scorers.items():
            for place, part in zip(places, scorer(batch).float().cpu().split(lengths), strict=True):
                parts[name][place] = part
    return {name: torch.cat([torch.zeros(0), *found]) for name, found in parts.items()}


@torch.no_grad()
def same_weights(sampler: Policy, trainer: Policy) -> bool:
    """Whether the sampler has the trainer's weights, rounded to the sampler's own type where that is another.

    Every weight is compared, as a sum can hide a difference: 0.3 to 0.7 s for 135 million on one thread, and nothing
    where sampler and trainer are one object.
    Edge cases: weights of other names (adapters merged on one side) or shapes are different; so is a NaN.
    """
    if sampler is trainer:
        return True
    own, other = trainer.model.state_dict(), sampler.model.state_dict()
    return own.keys() == other.keys() and all(
        torch.equal(value.to(other[name].device, other[name].dtype), other[name]) for name, value in own.items()
    )
