"""Preference pairs from the policy's own completions, made anew in every step: online preference optimisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trimpot.core.errors import UsageError
from trimpot.core.rows import PromptRow
from trimpot.core.samples import Branch, Draw, Sample
from trimpot.core.seeds import seed_for
from trimpot.core.stats import Stat
from trimpot.data.order import RowSource
from trimpot.models.policy import Policy
from trimpot.rollout.engine import Completion, decode, generate
from trimpot.rollout.groups import Group, completion_statistics, group_statistics, operations, records, refuse_unscored
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.scoring import same_weights
from trimpot.rollout.settings import Sampling
from trimpot.rollout.trajectories import Trajectory, Turn


class OnlinePairSource:
    """Samples completions of every prompt; the best by the rewards is chosen, the worst rejected.

    Of equals the first counts. A prompt whose scored completions all have one reward gives no pair, and
    ``online/pairs_share`` is the share of prompts that gave one. Equal texts cannot make a pair when equal texts get
    equal rewards.

    Source: arXiv 2402.04792 (two completions, judged by a language model); best and worst of k as in arXiv 2401.12086.
    Edge cases: no pair at all: a draw without samples, which is a step without gradient. A draw depends on seed, step
        and weights alone.

    Raises:
        UsageError: greedy sampling, or fewer than 2 completions of a prompt.
    """

    steps_per_draw = 1

    def __init__(
        self,
        policy: Policy,
        rows: Sequence[PromptRow],
        sampling: Sampling,
        samples: int,
        rewards: Rewards,
        seed: int,
    ) -> None:
        if sampling.settings.temperature == 0:
            raise UsageError("temperature", "0 gives equal completions, and no pair", "Sample at 1.0.")
        if samples < 2:
            raise UsageError("samples", f"{samples} completion of a prompt makes no pair", "Give at least 2.")
        self.policy, self.sampling, self.samples = policy, sampling, samples
        self.rewards, self.seed = rewards, seed
        self.rows = {row.id: row for row in rows}
        prompts = [Sample(row.id, sampling.template.prompt(row), ()) for row in self.rows.values()]
        self.order = RowSource(prompts, sampling.prompts, seed)

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        """The pairs of one step, each with the prompt as prefix, the chosen and the rejected completion as branches.

        Raises:
            UsageError: no completion of the draw could be scored; quotes the first error.
        """
        prompts = self.order.draw(step - 1)
        groups = self._groups(prompts, seed_for(self.seed, "rollout", step))
        refuse_unscored(groups)
        pairs = [_pair(group) for group in groups]
        trajectories = [one for group in groups for one in group.trajectories]
        made = [pair for pair in pairs if pair is not None]
        stats = {
            **completion_statistics(trajectories),
            **group_statistics(groups),
            **operations((groups,), bool(self.rewards.judges)),
            **self.rewards.stats([list(group.scores) for group in groups]),
            "sampling/weights_match": Stat(float(same_weights(self._sampler, self.policy)), 1),
            "online/pairs_share": Stat(len(made), len(groups)),
        }
        return Draw(tuple(made), stats=stats, records=records(groups, [pair is not None for pair in pairs]))

    @property
    def _sampler(self) -> Policy:
        return self.sampling.sampler or self.policy

    def _groups(self, prompts: Sequence[Sample], seed: int) -> list[Group]:
        rows = [self.rows[prompt.row_id] for prompt in prompts]
        prefixes = [prompt.prefix for prompt in prompts]
        completions = generate(self._sampler, prefixes, self.samples, self.sampling.settings, seed)
        texts = [[decode(self.policy, completion) for completion in group] for group in completions]
        scores = self.rewards.score(rows, prefixes, completions, texts)
        return [
            Group(
                row,
                tuple(Trajectory(prefix, [Turn(prefix, completion)]) for completion in group),
                tuple(answers),
                tuple(scored),
                tuple(score.value for score in scored),
            )
            for row, prefix, group, answers, scored in zip(rows, prefixes, completions, texts, scores, strict=True)
        ]


def _pair(group: Group) -> Sample | None:
    """The pair of a group, None when no completion was better than another."""
    if group.cause is not None:
        return None
    scored = [number for number, reward in enumerate(group.rewards) if not math.isnan(reward)]
    best = max(scored, key=lambda number: group.rewards[number])
    worst = min(scored, key=lambda number: group.rewards[number])
    branches = tuple(_branch(group.trajectories[number].turns[0].completion) for number in (best, worst))
    return Sample(group.row.id, group.trajectories[0].prompt, branches)


def _branch(completion: Completion) -> Branch:
    return Branch(tuple(completion.ids), (True,) * len(completion.ids))
