"""The completions of one prompt with their rewards, and what is reported of all groups of a draw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.rows import PromptRow
from trimpot.core.stats import Stat
from trimpot.objectives.policy_gradient.advantages import zero_variance_cause
from trimpot.objectives.policy_gradient.estimators import explained_variance
from trimpot.rollout.rewards import Scored
from trimpot.rollout.trajectories import Trajectory
from trimpot.statistics.correlation import pearson

CAUSES = ("all_right", "all_wrong", "all_clipped", "unscored")


@dataclass(frozen=True)
class Group:
    """All completions of a prompt in one draw.

    ``rewards`` are what advantages are made of (scores and penalties); NaN: the completion could not be scored.
    """

    row: PromptRow
    trajectories: tuple[Trajectory, ...]
    texts: tuple[str, ...]
    scores: tuple[Scored, ...]
    rewards: tuple[float, ...]

    @property
    def scored(self) -> list[float]:
        """The rewards that are not NaN."""
        return [reward for reward in self.rewards if not math.isnan(reward)]

    @property
    def cause(self) -> str | None:
        """Why no completion did better than another (see ``zero_variance_cause``); None when one did."""
        clipped = [not one.finished for one in self.trajectories]
        rewards = torch.tensor(self.rewards, dtype=torch.float64)
        return zero_variance_cause(rewards, clipped, [len(clipped)])[0]


def refuse_unscored(groups: Sequence[Group]) -> None:
    """Raises UsageError, quoting the first error, when no completion of a draw could be scored."""
    if any(group.scored for group in groups):
        return
    errors = [error for group in groups for score in group.scores for error in score.errors.values()]
    count = sum(len(group.rewards) for group in groups)
    problem = f"none of {count} completions could be scored; the first error: {errors[0] if errors else 'none given'}"
    raise UsageError("rewards", problem, "Mend the reward, the verifier or the environment.")


def records(groups: Sequence[Group], used: Sequence[bool]) -> tuple[dict[str, object], ...]:
    """One JSON-able record per completion; ``used``: the group is trained on. What was not scored is None."""
    return tuple(
        {
            "row": group.row.id,
            "prompt": group.row.prompt[-1].content,
            "expected": group.row.answer,
            "completion": text,
            "reward": _or_none(reward),
            "rewards": {name: _or_none(value) for name, value in score.parts.items()},
            "status": score.status,
            "finished": trajectory.finished,
            "used": kept,
        }
        for group, kept in zip(groups, used, strict=True)
        for trajectory, text, score, reward in zip(
            group.trajectories, group.texts, group.scores, group.rewards, strict=True
        )
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def completion_statistics(trajectories: Sequence[Trajectory]) -> dict[str, Stat]:
    """Lengths in sampled tokens, the share that was cut off, the sampler's entropy in nats.

    Names and meaning: TRL 1.16 (grpo_trainer.py), except that the mean length of finished completions is None, not 0,
    when there are none.
    """
    lengths = [one.length for one in trajectories]
    ended = [one.length for one in trajectories if one.finished]
    count = len(trajectories)
    return {
        "completions/mean_length": Stat(sum(lengths), count),
        "completions/min_length": Stat(min(lengths, default=0), min(1, count)),
        "completions/max_length": Stat(max(lengths, default=0), min(1, count)),
        "completions/mean_terminated_length": Stat(sum(ended), len(ended)),
        "completions/clipped_ratio": Stat(count - len(ended), count),
        "entropy": Stat(sum(sum(one.entropies) for one in trajectories), sum(lengths)),
    }


def operations(parts: Sequence[Sequence[Group]], judged: bool) -> dict[str, Stat]:
    """The tokens that a draw ran: generation's, and, where reward models judge, those that each of them read.

    ``parts``: groups that were sampled together, such as the greedy completions beside the others.
    """
    sampled = sum(rollout_tokens([one for group in part for one in group.trajectories]) for part in parts)
    counts = {"num_rollout_tokens": Stat(sampled, 1)}
    if judged:
        counts["num_judged_tokens"] = Stat(sum(map(judged_tokens, parts)), 1)
    return counts


def judged_tokens(groups: Sequence[Group]) -> int:
    """Tokens that a reward model reads of these groups: each prompt once, and every answer that it is asked about.

    The environment's own rewards and failures are not asked for.
    """
    asked = [[one for one in group.trajectories if one.reward is None and one.error is None] for group in groups]
    return sum(len(own[0].prompt) + sum(len(one.joined().ids) for one in own) for own in asked if own)


def rollout_tokens(trajectories: Sequence[Trajectory]) -> int:
    """Tokens that generation ran: prompts, once for all that follow them, answers, and conversations read again."""
    prompts = sum(len(prompt) for prompt in {one.prompt for one in trajectories})
    again = sum(len(turn.prompt) for one in trajectories for turn in one.turns[1:])
    return prompts + again + sum(one.length for one in trajectories)


def group_statistics(groups: Sequence[Group]) -> dict[str, Stat]:
    """Rewards, and groups without variance by cause, over all groups of a draw; unscored completions are left out.

    ``reward_std`` is the mean over groups of the standard deviation (n − 1) within a group, not TRL 1.16's of all
    rewards together. It and what follows on groups without variance need groups of at least two.
    """
    rewards = [reward for group in groups for reward in group.scored]
    stats = {"reward": Stat(sum(rewards), len(rewards))}
    compared = [group for group in groups if len(group.rewards) > 1]
    if compared:
        spreads = [statistics.stdev(group.scored) for group in compared if len(group.scored) > 1]
        causes = [group.cause for group in compared]
        stats["reward_std"] = Stat(sum(spreads), len(spreads))
        stats["frac_reward_zero_std"] = Stat(sum(cause is not None for cause in causes), len(compared))
        for cause in CAUSES:
            stats[f"zero_variance/{cause}"] = Stat(sum(found == cause for found in causes), len(compared))
    pairs = [
        (reward, float(trajectory.length))
        for group in groups
        for reward, trajectory in zip(group.rewards, group.trajectories, strict=True)
        if not math.isnan(reward)
    ]
    correlation = pearson([reward for reward, _ in pairs], [length for _, length in pairs]).value
    if correlation is not None:
        stats["reward_length_correlation"] = Stat(correlation, 1)
    return stats


def gold_statistics(groups: Sequence[Group], gold: str) -> dict[str, Stat]:
    """The trusted reward beside the one trained on, over the completions that both scored.

    Units: those of the two rewards; detectors compare how they change, not their levels.
    """
    both = [
        (score.parts[gold], reward)
        for group in groups
        for score, reward in zip(group.scores, group.rewards, strict=True)
        if math.isfinite(score.parts.get(gold, math.nan)) and math.isfinite(reward)
    ]
    return {
        "held_out/gold": Stat(sum(trusted for trusted, _ in both), len(both)),
        "held_out/proxy": Stat(sum(reward for _, reward in both), len(both)),
    }


def value_statistics(return_N: Tensor, value_N: Tensor, scored_N: Tensor) -> dict[str, Stat]:
    """How well the critic foresaw the returns of the scored completions' tokens, before the update.

    ``value/explained_variance`` forgives a constant error; ``value/baseline_better`` does not: it is 1 when the mean
    return, a constant, has a smaller mean squared error than the critic, else 0.
    """
    share = explained_variance(return_N, value_N, scored_N)
    returns, values = return_N[scored_N].double(), value_N[scored_N].double()
    worse = bool((returns - values).square().mean() > (returns - returns.mean()).square().mean())
    return {
        "value/explained_variance": Stat(0.0, 0) if share is None else Stat(share, 1),
        "value/baseline_better": Stat(float(worse), min(1, len(returns))),
    }
