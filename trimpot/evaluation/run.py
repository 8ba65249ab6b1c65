"""Evaluate a policy on a verifiable suite: one outcome per item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from trimpot.core.rows import PromptRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import seed_for
from trimpot.core.settings import setting
from trimpot.core.tensors import pack
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.rollout.engine import Completion, Progress, SamplingSettings, generate, ignore
from trimpot.rollout.source import decode
from trimpot.rollout.verifiers import Score, find_verifier
from trimpot.store.outcomes import Outcome


@dataclass(frozen=True)
class EvaluationSettings:
    """What the model is asked after the base model and every training stage."""

    suite: str = setting("embedded:reasoning-easy", "rows with a verifier: a file or embedded:NAME")
    items: int = setting(96, "items of the suite", at_least=1)
    max_tokens: int = setting(24, "longest answer in tokens", at_least=1)
    samples: int = setting(0, "answers of each item sampled at temperature 1, beside the greedy one", at_least=0)


@dataclass(frozen=True)
class BestOfN:
    """Best-of-n by a reward model beside its controls, all scored by the verifier on the same samples.

    Mean scores: ``picked`` of the reward model's choice, ``mean`` of a random choice, ``best`` of the verifier's.
    """

    n: int
    picked: float
    mean: float
    best: float


def evaluate(
    policy: Policy,
    rows: Sequence[PromptRow],
    template: ChatTemplate,
    max_tokens: int,
    run: str,
    progress: Progress = ignore,
    samples: int = 0,
) -> list[Outcome]:
    """Answers of all rows, scored by each row's verifier: the greedy one, or ``samples`` drawn at temperature 1.

    An unfinished answer is a parse failure. The draws are the same for every policy that is evaluated.
    """
    prompts, weights = [template.prompt(row) for row in rows], policy.weights_hash()
    settings = SamplingSettings(temperature=1.0 if samples else 0.0, max_tokens=max_tokens)
    groups = generate(policy, prompts, samples or 1, settings, seed_for(0, "evaluate"), progress)
    return [
        outcome(policy, row, prompt, completion, run, weights)
        for row, prompt, group in zip(rows, prompts, groups, strict=True)
        for completion in group
    ]


def outcome(
    policy: Policy, row: PromptRow, prompt: tuple[int, ...], completion: Completion, run: str, weights: str
) -> Outcome:
    """One evaluated item. ``cluster`` is the item itself: generated items share nothing."""
    text = decode(policy, completion)
    score = find_verifier(row.verifier)(text, row) if completion.finished else Score(0.0, "parse_failed")
    return Outcome(
        run=run,
        weights=weights,
        task=row.slices.get("task", "all"),
        item=row.id,
        cluster=row.id,
        slices=dict(row.slices),
        perturbation="none",
        prompt_ids=prompt,
        prompt=row.prompt[-1].content,
        expected=row.answer,
        output=text,
        score=score.value,
        status=score.status,
    )


@torch.no_grad()
def best_of_n(
    policy: Policy,
    judge: RewardModel,
    rows: Sequence[PromptRow],
    template: ChatTemplate,
    settings: SamplingSettings,
    n: int,
    run: str,
    progress: Progress = ignore,
) -> tuple[list[Outcome], BestOfN]:
    """Samples n completions of every row, lets the reward model pick one, and scores the picks by the verifier."""
    prompts, weights = [template.prompt(row) for row in rows], policy.weights_hash()
    groups = generate(policy, prompts, n, settings, seed_for(0, "best of n"), progress)
    picked, means, bests = [], [], []
    for row, prompt, group, rewards in zip(rows, prompts, groups, _rewards(judge, prompts, groups), strict=True):
        outcomes = [outcome(policy, row, prompt, completion, run, weights) for completion in group]
        scores = [one.score or 0.0 for one in outcomes]
        picked.append(outcomes[max(range(n), key=rewards.__getitem__)])
        means.append(sum(scores) / n)
        bests.append(max(scores))
    mean = [one.score or 0.0 for one in picked]
    return picked, BestOfN(n, _mean(mean), _mean(means), _mean(bests))


def _rewards(
    judge: RewardModel, prompts: Sequence[tuple[int, ...]], groups: Sequence[Sequence[Completion]]
) -> list[list[float]]:
    rewards: list[list[float]] = []
    for low in range(0, len(prompts), 16):
        samples = [
            Sample(
                str(index), prompts[index], tuple(Branch(tuple(c.ids), (False,) * len(c.ids)) for c in groups[index])
            )
            for index in range(low, min(low + 16, len(prompts)))
        ]
        (batch,) = pack(samples, 10**9, str(judge.device))
        values = judge.rewards(batch).tolist()
        size = len(groups[low])
        rewards.extend(values[i : i + size] for i in range(0, len(values), size))
    return rewards


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
