"""What a live probe is: it looks at training steps, changes nothing and returns metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch


class StepProbe(Protocol):
    """Looks at training steps and changes nothing: no weight, no gradient, no random state.

    The loop calls, at every step that is looked at and in this order: ``begin``; ``after_batch`` once for each
    micro-batch; ``before_update``; ``after_update``. Steps 1, 1 + every, 1 + 2·every, … are looked at: the same ones
    after a resume.

    Edge cases: in a step whose samples are all idle there is no micro-batch and no gradient; a step whose gradient is
    not finite does not change the weights. With several processes each sees its own micro-batches, and in
    ``before_update`` the gradient summed over all.
    """

    every: int
    """Steps between two looks; 1: all."""

    def begin(self, step: int, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Before the first backward pass of a step that is looked at; ``parameters`` are those that train."""

    def after_batch(self, samples: int) -> None:
        """After the backward pass of one micro-batch of so many samples; gradients hold the sum so far."""

    def before_update(self, learning_rate: float) -> None:
        """Gradients are complete and not yet clipped; one that no pass reached is None."""

    def after_update(self) -> Mapping[str, float | None]:
        """The weights are new. Metrics by name, such as ``noise_scale/simple``; None: not measured."""


@runtime_checkable
class ComparesBatches(Protocol):
    """A probe that compares the gradients of a step's parts, so it needs two at least.

    Where a step is one micro-batch, the loop runs ``part`` of its samples by themselves first (at least one sample, and
    not all), calls ``after_batch`` of this probe for them, then takes the step as ever: its gradients and losses are
    bitwise what they are without the probe. The call after the whole batch then counts the other samples alone.
    """

    part: float
    """Share of a step's samples that are run by themselves where there is one micro-batch; above 0, below 1."""

    def weigh(self, share: float) -> None:
        """Called before each ``after_batch``: the share of the batch in what the step's loss is divided by (for SFT:
        of its target tokens). The shares of a step, over all processes, sum to 1 where no sample is idle.
        """


@runtime_checkable
class Recalls(Protocol):
    """A probe that averages over looks: the metrics logged before a resume bring it to where it was."""

    def recall(self, metrics: Mapping[str, float | None]) -> None:
        """One logged step, oldest first; it may lack this probe's metrics."""
