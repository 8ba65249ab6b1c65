"""Rewards: weighted sums of verifiers, users' functions and reward models, each score tied to its own completion."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from trimpot.core.errors import UsageError
from trimpot.core.rows import PromptRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.stats import Stat
from trimpot.core.tensors import pack
from trimpot.models.reward import RewardModel
from trimpot.objectives.reward.ensemble import ensemble_reward
from trimpot.rollout.engine import Completion
from trimpot.rollout.verifiers import VERIFIERS, Score, on_row, own_answer
from trimpot.rollout.workers import Worker

IN_PROCESS = ("exact", "contains")
"""Verifiers that can neither hang nor fail; all others run in the worker process, under the time limit."""

ACCEPT_OWN_ANSWER = ("exact", "contains", "math", "reasoning_gym")
"""Verifiers that give a row's own answer 1; where they do not, no completion of that row can be right."""

ROWS_CHECKED = 512
"""Rows whose own answers are scored before a run, spread evenly over all rows."""

TOKENS_AT_ONCE = 8192
"""Tokens that a reward model reads in one forward pass."""

Key = tuple[int, int]
"""The number of a prompt in the draw, and of its completion."""


@dataclass(frozen=True)
class Scored:
    """A completion's reward.

    ``value`` is the weighted sum, NaN when a part with a weight failed. ``status``: ok, parse_failed (a part could not
    read the completion) or error. ``parts`` are the rewards by name, NaN where they failed; ``errors`` says why.
    """

    value: float
    status: str
    parts: Mapping[str, float]
    errors: Mapping[str, str] = field(default_factory=dict)


class Judge(Protocol):
    """Scores completions from their tokens: one number per completion, in the same nesting as ``groups``."""

    def __call__(
        self, prompts: Sequence[tuple[int, ...]], groups: Sequence[Sequence[Completion]]
    ) -> list[list[float]]: ...


class Rewards:
    """The rewards of a stage.

    Equation: R = Σᵢ wᵢ rᵢ over the named rewards i: verifiers, ``file.py:function``, and the names of ``judges``.
        ``weights`` None: each row's own verifier, with weight 1. A weight of 0 scores and logs without paying.

    Verifiers that could hang, and all of a user's functions, run in a worker process with ``time_limit`` seconds per
    call; it starts when first needed and ends with ``close`` or the program.

    Raises:
        UsageError: no weights, or one that is not finite.
    """

    def __init__(self, weights: Mapping[str, float] | None, judges: Mapping[str, Judge], time_limit: float) -> None:
        if weights is not None and not weights:
            raise UsageError("rewards", "is empty", "Name a reward and its weight, or leave rewards out.")
        for name, weight in (weights or {}).items():
            if not math.isfinite(weight):
                raise UsageError(f"rewards.{name}", f"has the weight {weight}", "Give a finite number.")
        self.weights = None if weights is None else dict(weights)
        self.judges = dict(judges)
        self._worker = Worker(time_limit)

    def __enter__(self) -> Rewards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker process."""
        self._worker.close()

    def names(self, rows: Sequence[PromptRow]) -> tuple[str, ...]:
        """The rewards that these rows' completions get, judges included."""
        if self.weights is not None:
            return tuple(self.weights)
        return tuple(dict.fromkeys(row.verifier for row in rows))

    def check(self, rows: Sequence[PromptRow]) -> None:
        """Looks all rewards up, and scores the answers that up to ROWS_CHECKED rows have themselves.

        Raises:
            UsageError: an unknown reward; one that fails on a row's own answer or gives no finite number for it; a
                verifier of ours for which a row lacks what it needs, or which does not accept the row's own answer.
        """
        for name in self.names(rows):
            if name in self.judges:
                continue
            if name not in IN_PROCESS:
                self._worker.load(name)
            mine = [row for row in rows if self.weights is not None or row.verifier == name]
            count = min(len(mine), ROWS_CHECKED)
            for number in range(count):
                self._check_row(name, mine[number * len(mine) // count])

    def _check_row(self, name: str, row: PromptRow) -> None:
        answer = own_answer(row)
        score = self._verify(name, answer, row)
        if score.error is not None:
            raise score.error
        if name in ("exact", "contains") and not answer.strip():
            raise UsageError(str(row.origin), f"has no answer for the verifier {name!r}", "Give the row an answer.")
        if name in ACCEPT_OWN_ANSWER and answer.strip() and score.value < 1:
            problem = f"gives the row's own answer {answer[:60]!r} only {score.value:g} {on_row(row)}"
            raise UsageError(f"verifier {name!r}", problem, "Mend the row, or name another verifier.")

    def _verify(self, name: str, output: str, row: PromptRow) -> Score:
        if name in IN_PROCESS:
            return VERIFIERS[name](output, row)
        return self._worker.score(name, output, row)

    def score(
        self,
        rows: Sequence[PromptRow],
        prompts: Sequence[tuple[int, ...]],
        groups: Sequence[Sequence[Completion]],
        texts: Sequence[Sequence[str]],
    ) -> list[list[Scored]]:
        """Scores the completions ``groups[i]`` of ``rows[i]``; ``texts`` are the same decoded.

        Raises:
            UsageError: a reward that cannot be looked up.
        Edge cases: a reward that fails on a completion leaves the scores of all others as they are.
        """
        keys = [(i, n) for i, group in enumerate(texts) for n in range(len(group))]
        parts: dict[str, dict[Key, Score]] = {}
        for name in self.names(rows):
            if name in self.judges:
                parts[name] = _judged(name, self.judges[name](prompts, groups), keys)
            else:
                parts[name] = {
                    (i, n): self._verify(name, texts[i][n], rows[i])
                    for i, n in keys
                    if self.weights is not None or rows[i].verifier == name
                }
        return [
            [self._sum({name: scores[i, n] for name, scores in parts.items() if (i, n) in scores}) for n in range(size)]
            for i, size in enumerate(map(len, texts))
        ]

    def _sum(self, parts: Mapping[str, Score]) -> Scored:
        weights = dict.fromkeys(parts, 1.0) if self.weights is None else self.weights
        paid = {name: part for name, part in parts.items() if weights[name] != 0}
        statuses = {part.status for part in paid.values()}
        status = next((status for status in ("error", "parse_failed") if status in statuses), "ok")
        return Scored(
            sum((weights[name] * part.value for name, part in paid.items()), start=0.0),
            status,
            {name: part.value for name, part in parts.items()},
            {name: str(part.error) for name, part in parts.items() if part.error is not None},
        )

    @staticmethod
    def stats(scored: Sequence[Sequence[Scored]]) -> dict[str, Stat]:
        """Metrics of a draw.

        rewards/NAME/mean over completions; rewards/NAME/std, the mean over groups of the group's standard deviation
        (n − 1); reward/error_rate, the share of completions without a score; reward/parse_failed_rate.

        Edge cases: completions that NAME could not score, or is not the reward of, count in neither mean nor std; nor
        does a group with fewer than two scores in std.
        """
        flat = [one for group in scored for one in group]
        stats = {
            "reward/error_rate": Stat(sum(one.status == "error" for one in flat), len(flat)),
            "reward/parse_failed_rate": Stat(sum(one.status == "parse_failed" for one in flat), len(flat)),
        }
        for name in dict.fromkeys(name for one in flat for name in one.parts):
            groups = [
                [one.parts[name] for one in group if math.isfinite(one.parts.get(name, math.nan))] for group in scored
            ]
            deviations = [statistics.stdev(group) for group in groups if len(group) > 1]
            stats[f"rewards/{name}/mean"] = Stat(sum(map(sum, groups)), sum(map(len, groups)))
            stats[f"rewards/{name}/std"] = Stat(sum(deviations), len(deviations))
        return stats


def _judged(name: str, values: Sequence[Sequence[float]], keys: Sequence[Key]) -> dict[Key, Score]:
    """A judge's numbers by completion; one that is not finite is an error of its completion."""
    scores = {}
    for (i, n), value in zip(keys, (value for group in values for value in group), strict=True):
        if math.isfinite(value):
            scores[i, n] = Score(value)
        else:
            error = UsageError(name, f"gave the reward {value}", "Look for NaN in the reward model's weights.")
            scores[i, n] = Score(math.nan, "error", error)
    return scores


class RewardModelJudge:
    """A judge made of one reward model or an ensemble of them, combined as ``ensemble_reward`` does.

    Units: the models' own, in which only differences mean anything.
    Source: arXiv 2310.02743 section 3.
    """

    def __init__(self, models: Sequence[RewardModel], combine: str, uncertainty_weight: float) -> None:
        if not models:
            raise UsageError("judge", "has no reward model", "Name at least one.")
        self.models, self.combine, self.uncertainty_weight = list(models), combine, uncertainty_weight

    @torch.no_grad()
    def __call__(self, prompts: Sequence[tuple[int, ...]], groups: Sequence[Sequence[Completion]]) -> list[list[float]]:
        """The rewards of all completions; a prompt runs once for all of its completions."""
        samples = [
            Sample(str(i), prompt, tuple(Branch(tuple(one.ids), (False,) * len(one.ids)) for one in group))
            for i, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
            if group
        ]
        results: list[list[float]] = [[] for _ in groups]
        for batch in pack(samples, TOKENS_AT_ONCE, str(self.models[0].device)):
            rewards_KS = torch.stack([model.rewards(batch).double() for model in self.models])
            values = ensemble_reward(rewards_KS, self.combine, self.uncertainty_weight).tolist()
            start = 0
            for row_id, size in zip(batch.row_ids, batch.branches_per_row, strict=True):
                results[int(row_id)] = values[start : start + size]
                start += size
        return results
