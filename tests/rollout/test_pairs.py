"""Online pairs: the best over the worst of a prompt's own completions, and none where all are equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, PromptRow
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.preference.dpo import DPO
from trimpot.rollout.pairs import OnlinePairSource
from trimpot.rollout.rewards import Rewards, Scored
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.source import Sampling
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.reference import reference_of
from trimpot.training.settings import LoopSettings, OptimizerSettings

ROWS = [PromptRow((Message("user", f"prompt {n}"),), "x") for n in range(5)]


class FunctionRewards:
    """Stands in for Rewards: one function of text and row; NaN is an error."""

    judges = ()

    def __init__(self, function: Callable[[str, PromptRow], float]) -> None:
        self.function = function

    def score(
        self, rows: Sequence[PromptRow], prompts: Any, groups: Any, texts: Sequence[Sequence[str]]
    ) -> list[list[Scored]]:
        values = [[self.function(text, row) for text in group] for row, group in zip(rows, texts, strict=True)]
        return [[self._scored(value) for value in group] for group in values]

    @staticmethod
    def _scored(value: float) -> Scored:
        failed = math.isnan(value)
        return Scored(value, "error" if failed else "ok", {"own": value}, {"own": "it hung"} if failed else {})

    stats = staticmethod(Rewards.stats)


def by_letters(text: str, row: PromptRow) -> float:
    return float(sum(map(ord, text)) % 97)


def source(policy: Policy, function: Callable[[str, PromptRow], float] = by_letters) -> OnlinePairSource:
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(1.0, 6), 3)
    rewards: Any = FunctionRewards(function)
    return OnlinePairSource(policy, ROWS, sampling, 4, rewards, 0)


def test_best_is_chosen_and_worst_rejected() -> None:
    policy = tiny()
    draw = source(policy).draw(1, {})
    template = ChatTemplate(policy.tokenizer)
    rows = {row.id: row for row in ROWS}
    for place, sample in enumerate(draw.samples):
        assert sample.prefix == template.prompt(rows[sample.row_id])
        rewards = [float(str(record["reward"])) for record in draw.records[4 * place : 4 * place + 4]]
        texts = [policy.tokenizer.decode(branch.ids, skip_special_tokens=True) for branch in sample.branches]
        assert [by_letters(text, ROWS[0]) for text in texts] == [max(rewards), min(rewards)]
        assert all(all(branch.supervised) for branch in sample.branches)
    assert draw.stats["online/pairs_share"].value == 1.0
    assert draw.stats["sampling/weights_match"].value == 1.0
    assert draw.stats["rewards/own/mean"].count == 12


def test_a_draw_depends_on_seed_step_and_weights_alone() -> None:
    one, other = source(tiny()), source(tiny())
    first = one.draw(2, {})
    other.draw(1, {})
    assert other.draw(2, {}) == first
    assert other.draw(3, {}) != first
    assert source(tiny(seed=1)).draw(2, {}) != first


def test_ties_give_no_pair() -> None:
    draw = source(tiny(), lambda text, row: by_letters(text, row) if row == ROWS[0] else 1.0).draw(2, {})
    there = sum(record["row"] == ROWS[0].id for record in draw.records) // 4
    assert [sample.row_id for sample in draw.samples] == [ROWS[0].id] * there
    assert draw.stats["online/pairs_share"].value == there / 3
    assert [record["used"] for record in draw.records] == [record["row"] == ROWS[0].id for record in draw.records]


def test_unscored_completions_are_in_no_pair() -> None:
    values: list[float] = []

    def sometimes(text: str, row: PromptRow) -> float:
        values.append(math.nan if len(values) % 4 else by_letters(text, row) + 1000 * (len(values) // 4))
        return values[-1]

    draw = source(tiny(), sometimes).draw(1, {})
    assert draw.samples == ()
    assert draw.stats["zero_variance/unscored"].value == 1.0
    assert draw.stats["online/pairs_share"].value == 0.0
    with pytest.raises(UsageError, match=r"none of 12 .*it hung"):
        source(tiny(), lambda text, row: math.nan).draw(1, {})


def test_a_step_without_pairs_leaves_the_weights_alone() -> None:
    policy = tiny()
    before = policy.weights_hash()
    plan = Plan(
        DPO(), source(policy, lambda text, row: 1.0), LoopSettings(steps=1), OptimizerSettings(weight_decay=0.1),
        reference_of(policy),
    )  # fmt: skip
    (step,) = train(TrainState.new(policy, OptimizerSettings(weight_decay=0.1)), plan)
    assert step.metrics["online/pairs_share"] == 0.0
    assert step.metrics["grad_norm"] == 0.0
    assert policy.weights_hash() == before


def test_a_step_with_pairs_moves_them() -> None:
    policy = tiny()
    before = policy.weights_hash()
    plan = Plan(DPO(), source(policy), LoopSettings(steps=1), OptimizerSettings(), reference_of(policy))
    (step,) = train(TrainState.new(policy, OptimizerSettings()), plan)
    assert step.metrics["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert policy.weights_hash() != before


def test_what_cannot_make_a_pair_is_refused() -> None:
    policy = tiny()
    template, rewards = ChatTemplate(policy.tokenizer), Rewards(None, {}, 1.0)
    with pytest.raises(UsageError, match="samples"):
        OnlinePairSource(policy, ROWS, Sampling(template, SamplingSettings(1.0, 6), 3), 1, rewards, 0)
    with pytest.raises(UsageError, match="temperature"):
        OnlinePairSource(policy, ROWS, Sampling(template, SamplingSettings(0.0, 6), 3), 2, rewards, 0)
