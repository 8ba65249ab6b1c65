"""Best of n: samples of which a judge picks one, the baseline of every training with rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import PromptRow
from trimpot.core.seeds import seed_for
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.run import outcomes_of
from trimpot.models.policy import Policy
from trimpot.rollout.engine import Completion, generate
from trimpot.rollout.rewards import Judge
from trimpot.rollout.sampling import SamplingSettings
from trimpot.store.outcomes import Outcome

MAJORITY, VERIFIER = "majority", "verifier"

Pick = Callable[[Sequence[tuple[int, ...]], Sequence[Sequence[Completion]], Sequence[Sequence[Outcome]]], list[int]]
"""Prompts, completions and their scored outcomes -> the number of the picked completion of every prompt."""


@dataclass(frozen=True)
class BestOfN:
    """Best of n beside its controls, all scored by the verifier on the same samples.

    Mean scores: ``picked`` of the judge's choice, ``mean`` of a random choice, ``best`` of the verifier's.
    """

    n: int
    picked: float
    mean: float
    best: float


def by_majority(
    prompts: Sequence[tuple[int, ...]],
    groups: Sequence[Sequence[Completion]],
    outcomes: Sequence[Sequence[Outcome]],
) -> list[int]:
    """The first completion with the most frequent text among those that ended (self-consistency, arXiv 2203.11171).

    Edge cases: no completion ended: the first one.
    """
    picks = []
    for group, scored in zip(groups, outcomes, strict=True):
        texts = [one.output.strip() if done.finished else None for one, done in zip(scored, group, strict=True)]
        votes = Counter(text for text in texts if text is not None)
        picks.append(texts.index(votes.most_common(1)[0][0]) if votes else 0)
    return picks


def by_verifier(
    prompts: Sequence[tuple[int, ...]],
    groups: Sequence[Sequence[Completion]],
    outcomes: Sequence[Sequence[Outcome]],
) -> list[int]:
    """The completion that the verifier scores highest: a ceiling, which knows the answer."""
    return [max(range(len(scored)), key=lambda i: scored[i].score or 0.0) for scored in outcomes]


def by_reward(judge: Judge) -> Pick:
    """The completion that a reward model scores highest."""

    def pick(
        prompts: Sequence[tuple[int, ...]],
        groups: Sequence[Sequence[Completion]],
        outcomes: Sequence[Sequence[Outcome]],
    ) -> list[int]:
        return [max(range(len(scores)), key=scores.__getitem__) for scores in judge(prompts, groups)]

    return pick


def best_of_n(
    policy: Policy,
    pick: Pick,
    rows: Sequence[PromptRow],
    template: ChatTemplate,
    settings: SamplingSettings,
    n: int,
    run: str,
    progress: Progress = ignore,
) -> tuple[list[Outcome], BestOfN]:
    """Samples n completions of every row, lets the judge pick one, and scores the picks by the verifier."""
    prompts = [template.prompt(row) for row in rows]
    groups = generate(policy, prompts, n, settings, seed_for(0, "best of n"), progress)
    outcomes = outcomes_of(policy, rows, prompts, groups, run)
    scores = [[one.score or 0.0 for one in group] for group in outcomes]
    picks = pick(prompts, groups, outcomes)
    picked = [group[place] for group, place in zip(outcomes, picks, strict=True)]
    return picked, BestOfN(
        n,
        _mean(group[place] for group, place in zip(scores, picks, strict=True)),
        _mean(score for group in scores for score in group),
        _mean(max(group) for group in scores),
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
