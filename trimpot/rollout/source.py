"""Rollouts as a source: prompts in, groups of scored completions out. The loop cannot tell it from a dataset."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trimpot.core.errors import UsageError
from trimpot.core.rows import PromptRow
from trimpot.core.samples import Branch, Draw, Sample
from trimpot.core.seeds import seed_for
from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.data.order import RowSource
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.objectives.policy_gradient.advantages import group_advantages, zero_variance_cause
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.rollout.engine import Completion, SamplingSettings, generate
from trimpot.rollout.verifiers import find_verifier
from trimpot.statistics.correlation import pearson


@dataclass(frozen=True)
class GroupSettings:
    """How many completions a prompt gets and who scores them."""

    group: int = setting(8, "completions of each prompt", "TRL's GRPOConfig; the paper has 64", at_least=2)
    reward: str | None = setting(None, "verifier name or file.py:function; default: the row's own verifier")


class RolloutSource:
    """Draws prompts in epoch order, samples a group of completions of each and scores them.

    A draw depends on (seed, step, weights) alone, so a resumed run samples what the interrupted one would have.
    """

    def __init__(
        self,
        rows: Sequence[PromptRow],
        template: ChatTemplate,
        prompts: int,
        groups: GroupSettings,
        sampling: SamplingSettings,
        objective: GRPO,
        seed: int,
    ) -> None:
        if sampling.temperature == 0:
            raise UsageError("temperature", "0 gives a group of equal completions", "Sample at 1.0.")
        self.rows = {row.id: row for row in rows}
        self.template, self.groups, self.sampling = template, groups, sampling
        self.objective, self.seed = objective, seed
        self.verifiers = {name: find_verifier(name) for name in {groups.reward or row.verifier for row in rows}}
        self.order = RowSource([Sample(row.id, template.prompt(row), ()) for row in self.rows.values()], prompts, seed)

    def draw(self, step: int, policy: Policy) -> Draw:
        """The groups of one step, with advantages and the sampler's log-probs as streams.

        Edge cases: a group whose rewards are all equal has advantages 0; its cause is counted.
        """
        prompts = self.order.draw(step - 1)
        rows = [self.rows[prompt.row_id] for prompt in prompts]
        size = self.groups.group
        completions = generate(
            policy, [prompt.prefix for prompt in prompts], size, self.sampling, seed_for(self.seed, "rollout", step)
        )
        texts = [[decode(policy, completion) for completion in group] for group in completions]
        rewards = [[self._score(text, row) for text in group] for row, group in zip(rows, texts, strict=True)]
        flat = torch.tensor([reward for group in rewards for reward in group], dtype=torch.float64)
        advantages = group_advantages(flat, [size] * len(rows), self.objective.scale_rewards).tolist()
        samples = tuple(
            Sample(prompt.row_id, prompt.prefix, _branches(group, advantages[i * size : (i + 1) * size]))
            for i, (prompt, group) in enumerate(zip(prompts, completions, strict=True))
        )
        records = tuple(
            {"row": row.id, "prompt": row.prompt[-1].content, "expected": row.answer, "completion": text, "reward": r}
            for row, group, scores in zip(rows, texts, rewards, strict=True)
            for text, r in zip(group, scores, strict=True)
        )
        # Without a KL term, a completion of advantage 0 adds nothing to the loss: its group needs no pass.
        idle = frozenset(
            position
            for position, sample in enumerate(samples)
            if self.objective.kl == 0 and not any(branch.streams["advantage_S"] for branch in sample.branches)
        )
        return Draw(samples, idle, self._stats(completions, rewards), records)

    def _score(self, text: str, row: PromptRow) -> float:
        return self.verifiers[self.groups.reward or row.verifier](text, row).value

    def _stats(self, completions: list[list[Completion]], rewards: list[list[float]]) -> dict[str, Stat]:
        flat = [completion for group in completions for completion in group]
        clipped = torch.tensor([not completion.finished for completion in flat])
        scores = torch.tensor([reward for group in rewards for reward in group])
        sizes = [len(group) for group in rewards]
        causes = zero_variance_cause(scores, clipped, sizes)
        groups = len(rewards)
        lengths = [float(len(completion.ids)) for completion in flat]
        stats = {
            "reward": Stat(float(scores.sum()), len(flat)),
            "reward_std": Stat(sum(statistics.stdev(group) for group in rewards), groups),
            "frac_reward_zero_std": Stat(sum(cause is not None for cause in causes), groups),
            "completions/mean_length": Stat(sum(len(completion.ids) for completion in flat), len(flat)),
            "completions/clipped_ratio": Stat(float(clipped.sum()), len(flat)),
            "entropy": Stat(sum(sum(completion.entropies) for completion in flat), sum(lengths)),
        }
        for cause in ("all_right", "all_wrong", "all_clipped"):
            stats[f"zero_variance/{cause}"] = Stat(sum(found == cause for found in causes), groups)
        correlation = pearson(scores.tolist(), lengths).value
        if correlation is not None:
            stats["reward_length_correlation"] = Stat(correlation, 1)
        return stats


def _branches(group: list[Completion], advantages: list[float]) -> tuple[Branch, ...]:
    return tuple(
        Branch(
            tuple(completion.ids),
            (True,) * len(completion.ids),
            {"sampler_logprob_N": completion.logprobs, "advantage_S": advantage},
        )
        for completion, advantage in zip(group, advantages, strict=True)
    )


def decode(policy: Policy, completion: Completion) -> str:
    """A completion's text without special tokens."""
    return policy.tokenizer.decode(completion.ids, skip_special_tokens=True)
