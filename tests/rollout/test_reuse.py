"""Several steps on one draw: every sample once a pass, statistics once, no beginning in the middle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, PromptRow
from trimpot.core.samples import Draw, Sample
from trimpot.core.stats import Stat
from trimpot.data.template import ChatTemplate
from trimpot.models.tiny import tiny
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.rollout.reuse import ReusedDraws
from trimpot.rollout.rewards import Rewards, Scored
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.source import RolloutSettings, RolloutSource, Sampling
from trimpot.training.loop import Plan, TrainState, train
from trimpot.training.settings import LoopSettings, OptimizerSettings


class Letters:
    """Pays by the letters of a completion."""

    judges = ()

    def score(self, rows: Any, prompts: Any, groups: Any, texts: Sequence[Sequence[str]]) -> list[list[Scored]]:
        return [[Scored(sum(map(ord, text)) % 97.0, "ok", {}) for text in group] for group in texts]

    stats = staticmethod(Rewards.stats)


class Numbered:
    """Draws ``count`` samples named by draw and place; every third is idle."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, []

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        self.asked.append((step, dict(carried)))
        samples = tuple(Sample(f"{step}-{place}", (1,), ()) for place in range(self.count))
        return Draw(samples, frozenset(range(0, self.count, 3)), {"reward": Stat(1.0, 1)}, ({"draw": step},))


@given(count=st.integers(0, 9), epochs=st.integers(1, 3), minibatches=st.integers(1, 4))
def test_every_pass_uses_every_sample_once(count: int, epochs: int, minibatches: int) -> None:
    inner = Numbered(count)
    source = ReusedDraws(inner, epochs, minibatches, 0)
    assert source.steps_per_draw == epochs * minibatches
    step = 0
    for draw in (1, 2):
        for epoch in range(epochs):
            parts = []
            for part in range(minibatches):
                step += 1
                parts.append(source.draw(step, {"step": step}))
                first = epoch == 0 and part == 0
                assert bool(parts[-1].stats) == bool(parts[-1].records) == first
            ids = [sample.row_id for part in parts for sample in part.samples]
            assert sorted(ids) == sorted(f"{draw}-{place}" for place in range(count))
            sizes = [len(part.samples) for part in parts]
            assert max(sizes) - min(sizes) <= 1
            idle = {part.samples[place].row_id for part in parts for place in part.idle}
            assert idle == {f"{draw}-{place}" for place in range(0, count, 3)}
    assert [number for number, _ in inner.asked] == [1, 2]
    assert inner.asked[1][1] == {"step": epochs * minibatches + 1}


def test_passes_are_shuffled_and_repeat() -> None:
    def orders(seed: int) -> list[list[str]]:
        source = ReusedDraws(Numbered(8), 3, 1, seed)
        return [[sample.row_id for sample in source.draw(step, {}).samples] for step in (1, 2, 3)]

    first, second, third = orders(0)
    assert first != second != third
    assert orders(0) == [first, second, third]
    assert orders(1) != [first, second, third]


def test_a_step_can_be_asked_again_within_its_draw() -> None:
    source = ReusedDraws(Numbered(6), 2, 2, 0)
    steps = [source.draw(step, {}) for step in (1, 2, 3, 4)]
    assert source.draw(3, {}) == steps[2]


def test_rollouts_train_for_several_steps_on_one_draw() -> None:
    """The ratio to the sampler leaves 1 after the first step of a draw and is back at the next draw."""
    policy = tiny()
    rows = [PromptRow((Message("user", f"prompt {n}"),)) for n in range(5)]
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(1.0, 6), 4)
    settings = RolloutSettings(group=4, epochs=2, minibatches=2)
    rewards: Any = Letters()
    source = ReusedDraws(RolloutSource(policy, rows, sampling, settings, GRPO(), rewards, {}, 0), 2, 2, 0)
    optimizer = OptimizerSettings(learning_rate=1e-3, warmup=0.0)
    steps = list(train(TrainState.new(policy, optimizer), Plan(GRPO(), source, LoopSettings(steps=8), optimizer)))
    off = [step.metrics["sampling/sampling_logp_difference/mean"] for step in steps]
    assert [value is not None and value <= 1e-4 for value in off] == [True, False, False, False] * 2
    assert [len(step.records) for step in steps] == [16, 0, 0, 0] * 2
    assert ["reward" in step.metrics for step in steps] == [True, False, False, False] * 2
    assert sorted(steps[0].row_ids + steps[1].row_ids) == sorted(steps[2].row_ids + steps[3].row_ids)


@pytest.mark.parametrize("step", [2, 4, 6])
def test_it_refuses_to_begin_in_the_middle_of_a_draw(step: int) -> None:
    with pytest.raises(UsageError, match="in the middle of a draw of 4 steps"):
        ReusedDraws(Numbered(6), 2, 2, 0).draw(step, {})


def test_it_begins_at_the_start_of_any_draw() -> None:
    inner = Numbered(6)
    ReusedDraws(inner, 2, 2, 0).draw(5, {})
    assert inner.asked == [(2, {})]
