"""Rollouts as a source: prompts in, groups of scored completions out. The loop cannot tell it from a dataset.

Shape suffixes: N sampled tokens, S completions, P prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trimpot.core.rows import PromptRow
from trimpot.core.samples import Branch, Draw, Sample
from trimpot.core.seeds import seed_for
from trimpot.core.stats import Stat
from trimpot.data.order import RowSource
from trimpot.models.policy import Policy
from trimpot.objectives.policy_gradient.dapo import soft_overlong_penalty
from trimpot.objectives.policy_gradient.importance import sampler_difference
from trimpot.objectives.policy_gradient.rollouts import PolicyGradient, Rollouts
from trimpot.rollout.engine import Completion, decode
from trimpot.rollout.environments import find_environment
from trimpot.rollout.groups import (
    Group,
    completion_statistics,
    gold_statistics,
    group_statistics,
    operations,
    records,
    refuse_unscored,
    value_statistics,
)
from trimpot.rollout.rewards import Rewards, Scored
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.scoring import Scorer, same_weights, token_scores
from trimpot.rollout.settings import RolloutSettings, Sampling, check_together
from trimpot.rollout.trajectories import Play, Trajectory, sample_trajectories

ENVIRONMENT = "environment"
"""The name of an environment's reward among the parts of a score."""
LOG_PROBS = ("old_logprob_N", "reference_logprob_N")
"""Scores that go on with the completions, so that the loss does not compute them again; values do not."""


class RolloutSource:
    """Draws prompts in epoch order, samples a group of completions of each and scores them.

    A draw depends on seed, step, weights and the carried numbers alone, so a resumed run samples what the interrupted
    one would have.

    Raises:
        UsageError: settings that cannot work together: greedy sampling, a group too small for the objective, turns
            without an environment, more minibatches than prompts, an overlong buffer of max_tokens or more.
        ValueError: the objective needs a scorer that is not given.
    """

    steps_per_draw = 1

    def __init__(
        self,
        policy: Policy,
        rows: Sequence[PromptRow],
        sampling: Sampling,
        settings: RolloutSettings,
        objective: PolicyGradient,
        rewards: Rewards,
        scorers: Mapping[str, Scorer],
        seed: int,
    ) -> None:
        check_together(sampling.settings, sampling.prompts, settings, objective)
        self.policy, self.sampling, self.settings, self.seed = policy, sampling, settings, seed
        self.objective, self.rewards = objective, rewards
        if missing := {*objective.rollout_needs} & {*LOG_PROBS, "value_N"} - scorers.keys():
            raise ValueError(f"{objective.name} needs scorers for {', '.join(sorted(missing))}")
        wanted = {*objective.rollout_needs, *({*objective.needs} & {*LOG_PROBS})}
        if sampling.sampler is not None or settings.epochs * settings.minibatches > 1:
            # From the second update on a draw on, the trainer's own log-probs no longer tell what the sampler's miss.
            wanted.add("old_logprob_N")
        self.scorers = {name: scorer for name, scorer in scorers.items() if name in wanted}
        self.play = None
        if settings.environment is not None:
            environment = find_environment(settings.environment, settings.reward_time_limit)
            self.play = Play(environment, settings.turns, sampling.template)
        self.rows = {row.id: row for row in rows}
        prompts = [Sample(row.id, sampling.template.prompt(row), ()) for row in self.rows.values()]
        self.order = RowSource(prompts, sampling.prompts, seed)

    @property
    def sampler(self) -> Policy:
        """The policy that completions are drawn from."""
        return self.sampling.sampler or self.policy

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        """The groups of one draw, with advantages and log-probs as streams.

        Edge cases: a completion that could not be scored has advantage 0. Dynamic sampling may end with fewer groups
            than prompts, or none: a step without gradient.

        Raises:
            UsageError: no completion of the draw could be scored; quotes the first error.
        """
        groups, used, rounds = self._rounds(step)
        refuse_unscored(groups)
        kept = [group for group, trained in zip(groups, used, strict=True) if trained]
        samples = [_sample(group) for group in kept]
        scores = token_scores(samples, self.scorers, self.sampling.token_budget, str(self.policy.device))
        greedy = self._greedy(samples)
        rollouts = self._rollouts(samples, kept, scores, carried)
        if greedy:
            rewards = torch.tensor([group.rewards[0] for group in greedy], dtype=torch.float64)
            rollouts = replace(rollouts, greedy_reward_P=rewards)
        advantages = dict(self.objective.advantages(rollouts)) if kept else {"advantage_N": torch.zeros(0)}
        scored_N = ~torch.isnan(rollouts.reward_S)[rollouts.sequence_N]
        advantages["advantage_N"] = advantages["advantage_N"].masked_fill(~scored_N, 0.0)
        streams = {
            "sampler_logprob_N": rollouts.sampler_logprob_N,
            **{name: scores[name] for name in LOG_PROBS if name in scores},
            **advantages,
        }
        stats = {**self._statistics(groups, rollouts), **operations((groups, greedy), bool(self.rewards.judges))}
        if "return_N" in advantages and rollouts.value_N is not None:
            stats.update(value_statistics(advantages["return_N"], rollouts.value_N, scored_N))
        if self.settings.dynamic_sampling > 1:
            stats["dynamic_sampling/rounds"] = Stat(rounds, 1)
            stats["dynamic_sampling/discarded"] = Stat(len(groups) - len(kept), len(groups))
        done = tuple(self._with_streams(samples, kept, streams))
        return Draw(done, self._idle(done), stats, records(groups, used))

    def _rounds(self, step: int) -> tuple[list[Group], list[bool], int]:
        """All groups sampled for a draw, which of them to train on, and the number of rounds it took."""
        groups: list[Group] = []
        used: list[bool] = []
        limit, wanted = self.settings.dynamic_sampling, self.sampling.prompts
        for number in range(limit):
            prompts = self.order.draw((step - 1) * limit + number)
            seed = seed_for(self.seed, "rollout", step, number)
            for group in self._groups(prompts, self.settings.group, self.sampling.settings, seed):
                groups.append(group)
                used.append(limit == 1 or (sum(used) < wanted and group.cause is None))
            if sum(used) >= wanted:
                break
        return groups, used, number + 1

    def _groups(self, prompts: Sequence[Sample], samples: int, settings: SamplingSettings, seed: int) -> list[Group]:
        rows = [self.rows[prompt.row_id] for prompt in prompts]
        prefixes = [prompt.prefix for prompt in prompts]
        trajectories = sample_trajectories(self.sampler, rows, prefixes, samples, settings, seed, self.play)
        completions = [[one.joined() for one in group] for group in trajectories]
        groups = []
        for place, scores in enumerate(self._scores(rows, prefixes, trajectories, completions)):
            texts = tuple(decode(self.policy, completion) for completion in completions[place])
            rewards = tuple(
                score.value + self._overlong(one) for one, score in zip(trajectories[place], scores, strict=True)
            )
            groups.append(Group(rows[place], tuple(trajectories[place]), texts, tuple(scores), rewards))
        return groups

    def _scores(
        self,
        rows: Sequence[PromptRow],
        prefixes: Sequence[tuple[int, ...]],
        trajectories: Sequence[Sequence[Trajectory]],
        completions: Sequence[Sequence[Completion]],
    ) -> list[list[Scored]]:
        """The environment's rewards where it gave one, else those of the stage on the last answer."""
        places = [
            [number for number, one in enumerate(group) if one.reward is None and one.error is None]
            for group in trajectories
        ]
        found = self.rewards.score(
            rows,
            prefixes,
            [[completions[i][number] for number in numbers] for i, numbers in enumerate(places)],
            [[self._answer(trajectories[i][number]) for number in numbers] for i, numbers in enumerate(places)],
        )
        scores = [[_environment_score(one) for one in group] for group in trajectories]
        for i, numbers in enumerate(places):
            for number, score in zip(numbers, found[i], strict=True):
                scores[i][number] = score
        return scores

    def _answer(self, trajectory: Trajectory) -> str:
        return decode(self.policy, trajectory.turns[-1].completion)

    def _overlong(self, trajectory: Trajectory) -> float:
        """What is added to the reward for length; the limit holds for each answer, so the longest counts."""
        if self.settings.overlong_buffer == 0:
            return 0.0
        longest = max(len(turn.completion.ids) for turn in trajectory.turns)
        limit = self.sampling.settings.max_tokens
        return self.settings.overlong_penalty * soft_overlong_penalty(longest, limit, self.settings.overlong_buffer)

    def _rollouts(
        self,
        samples: Sequence[Sample],
        groups: Sequence[Group],
        scores: Mapping[str, Tensor],
        carried: Mapping[str, float],
    ) -> Rollouts:
        trajectories = [one for group in groups for one in group.trajectories]
        lengths = torch.tensor([one.length for one in trajectories], dtype=torch.long)
        return Rollouts(
            torch.arange(len(trajectories)).repeat_interleave(lengths),
            tuple(len(group.trajectories) for group in groups),
            torch.tensor([reward for group in groups for reward in group.rewards], dtype=torch.float64),
            torch.tensor([one.finished for one in trajectories], dtype=torch.bool),
            torch.tensor([value for one in trajectories for value in one.logprobs]),
            carried=carried,
            **scores,
        )

    def _greedy(self, samples: Sequence[Sample]) -> list[Group]:
        """A greedy completion of every prompt, where the objective needs its reward."""
        if "greedy_reward_P" not in self.objective.rollout_needs or not samples:
            return []
        settings = replace(self.sampling.settings, temperature=0.0)
        return self._groups([Sample(sample.row_id, sample.prefix, ()) for sample in samples], 1, settings, 0)

    def _with_streams(
        self, samples: Sequence[Sample], groups: Sequence[Group], streams: Mapping[str, Tensor]
    ) -> list[Sample]:
        """The samples with each token's numbers; completions that are left out of the loss have no targets."""
        values = {name: numbers.tolist() for name, numbers in streams.items()}
        start, done = 0, []
        for sample, group in zip(samples, groups, strict=True):
            branches = []
            for branch, one in zip(sample.branches, group.trajectories, strict=True):
                stop = start + branch.targets
                if self.settings.mask_truncated and not one.finished:
                    branches.append(Branch(branch.ids, (False,) * len(branch.ids), {name: () for name in values}))
                else:
                    own = {name: tuple(numbers[start:stop]) for name, numbers in values.items()}
                    branches.append(Branch(branch.ids, branch.supervised, own))
                start = stop
            done.append(Sample(sample.row_id, sample.prefix, tuple(branches)))
        return done

    def _idle(self, samples: Sequence[Sample]) -> frozenset[int]:
        """Samples that cannot move the loss: no target, or advantages of 0 where nothing else is learned from."""

        def moves(branch: Branch) -> bool:
            advantages = branch.streams["advantage_N"]
            assert isinstance(advantages, tuple)
            return any(advantages) if self.objective.skips_idle else branch.targets > 0

        return frozenset(place for place, sample in enumerate(samples) if not any(map(moves, sample.branches)))

    def _statistics(self, groups: Sequence[Group], rollouts: Rollouts) -> dict[str, Stat]:
        trajectories = [one for group in groups for one in group.trajectories]
        stats = {
            **completion_statistics(trajectories),
            **group_statistics(groups),
            **self.rewards.stats([list(group.scores) for group in groups]),
            "sampling/weights_match": Stat(float(same_weights(self.sampler, self.policy)), 1),
        }
        if self.settings.gold is not None:
            stats.update(gold_statistics(groups, self.settings.gold))
        if self.play is not None:
            stats["environment/turns"] = Stat(sum(len(one.turns) for one in trajectories), len(trajectories))
        if rollouts.old_logprob_N is not None:
            stats.update(sampler_difference(rollouts.old_logprob_N, rollouts.sampler_logprob_N))
        return stats


def _environment_score(trajectory: Trajectory) -> Scored:
    if trajectory.error is not None:
        return Scored(math.nan, "error", {}, {ENVIRONMENT: trajectory.error})
    value = math.nan if trajectory.reward is None else trajectory.reward
    return Scored(value, "ok", {ENVIRONMENT: value})


def _sample(group: Group) -> Sample:
    return Sample(group.row.id, group.trajectories[0].prompt, tuple(one.branch() for one in group.trajectories))
