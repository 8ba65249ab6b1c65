"""Evaluate a policy on a verifiable suite: one outcome per item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import PromptRow
from trimpot.core.seeds import seed_for
from trimpot.core.settings import setting
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.rollout.engine import Completion, decode, generate
from trimpot.rollout.rewards import Rewards, Scored
from trimpot.rollout.sampling import SamplingSettings
from trimpot.store.outcomes import Outcome

TIME_LIMIT = 10.0
"""Seconds that a verifier may take for one answer."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What the model is asked after the base model and every training stage."""

    suite: str = setting("embedded:reasoning-easy", "rows with a verifier: a file, a saved data set or embedded:NAME")
    items: int = setting(96, "items of the suite", at_least=1)
    max_tokens: int = setting(24, "longest answer in tokens", at_least=1)
    samples: int = setting(0, "answers of each item sampled at temperature 1, beside the greedy one", at_least=0)
    best_of: int = setting(0, "samples of each item of which the judge picks one; 0: none", at_least=0)
    judge: str = setting("majority", "who picks: majority, verifier, stage:NAME or the folder of a reward model")


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
    prompts = [template.prompt(row) for row in rows]
    settings = SamplingSettings(temperature=1.0 if samples else 0.0, max_tokens=max_tokens)
    groups = generate(policy, prompts, samples or 1, settings, seed_for(0, "evaluate"), progress)
    return [one for group in outcomes_of(policy, rows, prompts, groups, run) for one in group]


def outcomes_of(
    policy: Policy,
    rows: Sequence[PromptRow],
    prompts: Sequence[tuple[int, ...]],
    groups: Sequence[Sequence[Completion]],
    run: str,
) -> list[list[Outcome]]:
    """The completions of every row as outcomes; a verifier that fails on one is that one's status ``error``."""
    weights = policy.weights_hash()
    texts = [[decode(policy, completion) for completion in group] for group in groups]
    with Rewards(None, {}, TIME_LIMIT) as rewards:
        scores = rewards.score(rows, prompts, groups, texts)
    return [
        [_outcome(row, prompt, *one, run, weights) for one in zip(group, said, scored, strict=True)]
        for row, prompt, group, said, scored in zip(rows, prompts, groups, texts, scores, strict=True)
    ]


def _outcome(
    row: PromptRow, prompt: tuple[int, ...], completion: Completion, text: str, scored: Scored, run: str, weights: str
) -> Outcome:
    """One evaluated item. ``cluster`` is the item itself: generated items share nothing."""
    score, status = (scored.value, scored.status) if completion.finished else (0.0, "parse_failed")
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
        score=None if status == "error" else score,
        status=status,
    )
