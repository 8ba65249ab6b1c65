"""What an advantage is computed from: the completions of one draw and their rewards.

Shape suffixes: N sampled tokens, S completions, P prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from trimpot.core.tensors import Objective


@dataclass(frozen=True)
class Rollouts:
    """The completions of one draw, in groups of one prompt each.

    Shapes: sequence_N and the log-probs and values [N]; reward_S, finished_S [S]; greedy_reward_P [P]; ``groups`` are
    the numbers of completions per prompt, in order.
    Units: rewards as given, float64; NaN: the completion could not be scored. Log-probs in nats.
    ``finished_S``: the completion ended by itself. ``old_logprob_N``: of the policy, by the trainer. ``value_N``: the
    critic's before the update. ``greedy_reward_P``: of the prompt's most likely completion. ``carried``: the
    objective's own numbers (see Carries). None: the objective does not ask for it in ``rollout_needs``.
    """

    sequence_N: Tensor
    groups: tuple[int, ...]
    reward_S: Tensor
    finished_S: Tensor
    sampler_logprob_N: Tensor
    old_logprob_N: Tensor | None = None
    reference_logprob_N: Tensor | None = None
    value_N: Tensor | None = None
    greedy_reward_P: Tensor | None = None
    carried: Mapping[str, float] = field(default_factory=dict)


class PolicyGradient(Objective, Protocol):
    """An objective on rollouts: it says what the advantage of every token is, and what must be scored for it."""

    @property
    def rollout_needs(self) -> tuple[str, ...]:
        """Fields of Rollouts beside rewards and the sampler's log-probs that ``advantages`` or the loss reads."""

    @property
    def smallest_group(self) -> int:
        """Completions of a prompt that the advantage needs at least."""

    @property
    def skips_idle(self) -> bool:
        """True when a completion whose advantages are all 0 adds nothing to the loss, so that it needs no pass."""

    def advantages(self, rollouts: Rollouts) -> Mapping[str, Tensor]:
        """Streams made of the rollouts, each [N]: ``advantage_N`` always; PPO's ``return_N`` and ``old_value_N``."""
