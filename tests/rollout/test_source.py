"""Rollouts as a source: pure draws, advantages and streams of their own completions, what is counted and refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, PromptRow
from trimpot.core.samples import Branch, Draw, Sample
from trimpot.core.tensors import Batch, pack_one
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.objectives.policy_gradient.dapo import soft_overlong_penalty
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.policy_gradient.ppo import PPO
from trimpot.objectives.policy_gradient.remax import ReMax
from trimpot.objectives.policy_gradient.rollouts import Rollouts
from trimpot.rollout.engine import Completion, decode, generate
from trimpot.rollout.rewards import Rewards, Scored
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.settings import check_together
from trimpot.rollout.source import RolloutSettings, RolloutSource, Sampling

ROWS = [PromptRow((Message("user", f"prompt {n}"),), "x") for n in range(5)]
LIMIT = 6


@dataclass
class FunctionRewards:
    """Stands in for Rewards: one function of text and row; NaN is an error."""

    function: Callable[[str, PromptRow], float]
    judges = ()

    def score(
        self,
        rows: Sequence[PromptRow],
        prompts: Sequence[tuple[int, ...]],
        groups: Sequence[Sequence[Completion]],
        texts: Sequence[Sequence[str]],
    ) -> list[list[Scored]]:
        assert [len(group) for group in groups] == [len(group) for group in texts]
        return [[self._one(text, row) for text in group] for row, group in zip(rows, texts, strict=True)]

    def _one(self, text: str, row: PromptRow) -> Scored:
        value = self.function(text, row)
        errors = {"own": "raised ValueError: no number"} if math.isnan(value) else {}
        return Scored(value, "error" if errors else "ok", {"own": value}, errors)

    stats = staticmethod(Rewards.stats)


def by_letters(text: str, row: PromptRow) -> float:
    return float(sum(map(ord, text)) % 97)


def source(
    policy: Policy,
    function: Callable[[str, PromptRow], float] = by_letters,
    objective: Any = None,
    scorers: Mapping[str, Callable[[Batch], Tensor]] | None = None,
    **changes: Any,
) -> RolloutSource:
    settings = RolloutSettings(**{"group": 4, **changes})
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(1.0, LIMIT), 3, token_budget=64)
    rewards: Any = FunctionRewards(function)
    return RolloutSource(policy, ROWS, sampling, settings, objective or GRPO(), rewards, scorers or {}, 0)


def stream(draw: Draw, name: str) -> Tensor:
    return torch.tensor([value for one in draw.samples for branch in one.branches for value in branch.streams[name]])


def by_completion(draw: Draw, name: str) -> list[Sequence[float]]:
    return [branch.streams[name] for sample in draw.samples for branch in sample.branches]


def test_a_draw_depends_on_seed_step_and_weights_alone() -> None:
    one, other = source(tiny()), source(tiny())
    first = one.draw(2, {})
    other.draw(5, {})
    assert other.draw(2, {}) == first
    assert one.draw(2, {}) == first
    assert one.draw(3, {}) != first
    assert source(tiny(seed=1)).draw(2, {}) != first
    assert len(first.samples) == 3
    assert all(len(sample.branches) == 4 for sample in first.samples)
    assert len(first.records) == 12


def test_rewards_become_advantages_of_their_own_completions() -> None:
    policy = tiny()
    draw = source(policy).draw(1, {})
    rewards = torch.tensor([record["reward"] for record in draw.records], dtype=torch.float64).view(3, 4)
    assert [by_letters(str(one["completion"]), ROWS[0]) for one in draw.records] == rewards.flatten().tolist()
    expected = ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)).flatten()
    given = by_completion(draw, "advantage_N")
    for advantage, values in zip(expected.tolist(), given, strict=True):
        assert values == pytest.approx([advantage] * len(values), abs=1e-6)
    assert draw.stats["reward"].value == pytest.approx(float(rewards.mean()))
    assert draw.stats["reward_std"].value == pytest.approx(float(rewards.std(1).mean()))
    assert draw.records[0]["rewards"] == {"own": rewards[0, 0]}


def test_the_rows_verifier_scores_when_no_reward_is_named() -> None:
    policy = tiny()
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(1.0, LIMIT), 3)
    rewards = Rewards(None, {}, 1.0)
    draw = RolloutSource(policy, ROWS, sampling, RolloutSettings(group=2), GRPO(), rewards, {}, 0).draw(1, {})
    assert draw.stats["zero_variance/all_clipped"].count == 3
    assert draw.stats["rewards/exact/mean"].count == 6
    assert {record["status"] for record in draw.records} <= {"ok", "parse_failed"}


@dataclass(frozen=True)
class Needy:
    """Asks for every stream there is, and shows what it was given."""

    name: ClassVar[str] = "needy"
    stage: ClassVar[str] = "policy_gradient"
    needs: ClassVar[tuple[str, ...]] = ("logprob_N", "advantage_N", "reference_logprob_N", "value_N")
    rollout_needs: ClassVar[tuple[str, ...]] = ("old_logprob_N", "value_N", "greedy_reward_P")
    smallest_group: ClassVar[int] = 1
    skips_idle: ClassVar[bool] = False
    seen: list[Rollouts]

    def advantages(self, rollouts: Rollouts) -> dict[str, Tensor]:
        self.seen.append(rollouts)
        assert rollouts.value_N is not None
        return {"advantage_N": rollouts.value_N, "return_N": rollouts.value_N * 2, "old_value_N": rollouts.value_N}


def scorers_of(policy: Policy) -> dict[str, Callable[[Batch], Tensor]]:
    return {
        "old_logprob_N": lambda batch: policy.scores(batch).logprob_N,
        "reference_logprob_N": lambda batch: tiny(seed=9).scores(batch).logprob_N,
        "value_N": lambda batch: batch.target_ids_N * 100.0 + batch.positions_T[batch.predict_from_N],
    }


def test_streams_equal_direct_scoring_whatever_the_micro_batches() -> None:
    policy, seen = tiny(), []
    scorers = scorers_of(policy)
    draw = source(policy, objective=Needy(seen), scorers=scorers).draw(1, {"carried": 2.0})
    whole = pack_one(draw.samples)
    rollouts = seen[0]
    for name in ("old_logprob_N", "reference_logprob_N"):
        assert (stream(draw, name) - scorers[name](whole)).abs().max() <= 1e-4
    assert "value_N" not in draw.samples[0].branches[0].streams
    assert torch.equal(stream(draw, "old_value_N"), scorers["value_N"](whole))
    assert (stream(draw, "sampler_logprob_N") - stream(draw, "old_logprob_N")).abs().max() <= 1e-4
    assert torch.equal(rollouts.sequence_N, whole.sequence_N)
    assert rollouts.groups == (4, 4, 4)
    assert rollouts.carried == {"carried": 2.0}
    assert rollouts.reward_S.tolist() == [record["reward"] for record in draw.records]
    assert rollouts.finished_S.tolist() == [record["finished"] for record in draw.records]


def test_greedy_completions_end_where_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, seen = tiny(), []
    one = source(policy, objective=Needy([]), scorers=scorers_of(policy))
    one.sampling = replace(one.sampling, settings=SamplingSettings(1.0, LIMIT, stop=("q",)))
    groups = one._groups

    def spied(prompts: Any, samples: int, settings: SamplingSettings, seed: int) -> Any:
        seen.append((settings.temperature, settings.stop))
        return groups(prompts, samples, settings, seed)

    monkeypatch.setattr(one, "_groups", spied)
    one.draw(1, {})
    assert seen == [(1.0, ("q",)), (0.0, ("q",))]


def test_greedy_rewards_are_those_of_the_most_likely_completions() -> None:
    policy, seen = tiny(), []
    draw = source(policy, objective=Needy(seen), scorers=scorers_of(policy)).draw(1, {})
    prompts = [sample.prefix for sample in draw.samples]
    likely = [group[0] for group in generate(policy, prompts, 1, SamplingSettings(0.0, LIMIT), 0)]
    greedy = seen[0].greedy_reward_P
    assert greedy is not None
    assert greedy.tolist() == [by_letters(decode(policy, one), ROWS[0]) for one in likely]
    remax = source(policy, objective=ReMax(), group=1).draw(1, {})
    expected = [float(str(one["reward"])) - value for one, value in zip(remax.records, greedy.tolist(), strict=True)]
    assert [values[0] for values in by_completion(remax, "advantage_N")] == pytest.approx(expected)
    assert not [name for name in remax.stats if name == "frac_reward_zero_std" or name.startswith("zero_variance/")]


def test_a_critic_is_compared_with_a_constant() -> None:
    policy = tiny()
    constant = {**scorers_of(policy), "value_N": lambda batch: torch.full((len(batch.target_ids_N),), 500.0)}
    stats = source(policy, objective=PPO(gae_lambda=1.0, kl=0.0), scorers=constant).draw(1, {}).stats
    assert stats["value/explained_variance"].value == pytest.approx(0.0, abs=1e-6)
    assert stats["value/baseline_better"].value == 1.0


def test_a_missing_scorer_is_named() -> None:
    with pytest.raises(ValueError, match="value_N"):
        source(tiny(), objective=PPO(kl=0.0))


def test_unscored_completions_have_no_advantage_and_shift_no_other() -> None:
    calls = []

    def fails_once(text: str, row: PromptRow) -> float:
        calls.append(text)
        return math.nan if len(calls) == 2 else by_letters(text, row)

    policy = tiny()
    draw, clean = source(policy, fails_once).draw(1, {}), source(policy).draw(1, {})
    assert [one["completion"] for one in draw.records] == [one["completion"] for one in clean.records]
    assert [one["reward"] for one in draw.records[2:]] == [one["reward"] for one in clean.records[2:]]
    assert draw.records[1]["reward"] is None
    assert draw.records[1]["status"] == "error"
    given = by_completion(draw, "advantage_N")
    assert not any(given[1])
    rest = torch.tensor([draw.records[n]["reward"] for n in (0, 2, 3)], dtype=torch.float64)
    assert given[0][0] == pytest.approx(float((rest[0] - rest.mean()) / (rest.std() + 1e-4)), abs=1e-6)
    assert draw.stats["reward/error_rate"].value == 1 / 12
    assert draw.stats["reward"].count == 11


def test_a_draw_without_any_score_quotes_the_first_error() -> None:
    with pytest.raises(UsageError, match=r"none of 12 .*raised ValueError: no number"):
        source(tiny(), lambda text, row: math.nan).draw(1, {})


@pytest.mark.parametrize(("kl", "idle"), [(0.0, {0, 1, 2}), (0.1, set())])
def test_groups_without_differing_rewards_are_idle_unless_something_else_is_learned(kl: float, idle: set[int]) -> None:
    policy = tiny()
    draw = source(policy, lambda text, row: 1.0, GRPO(kl=kl), scorers_of(policy)).draw(1, {})
    assert draw.idle == idle
    assert draw.stats["zero_variance/all_right"].value or draw.stats["zero_variance/all_clipped"].value
    assert draw.stats["frac_reward_zero_std"].value == 1.0
    assert ("reference_logprob_N" in draw.samples[0].branches[0].streams) == (kl > 0)


def right_in_two_prompts(text: str, row: PromptRow) -> float:
    return by_letters(text, row) if row in ROWS[:2] else 0.0


def test_dynamic_sampling_goes_on_until_there_are_groups_with_differing_rewards() -> None:
    policy = tiny()
    draw = source(policy, right_in_two_prompts, dynamic_sampling=4).draw(1, {})
    names = {row.id for row in ROWS[:2]}
    assert len(draw.samples) == 3
    assert {sample.row_id for sample in draw.samples} <= names
    rounds = draw.stats["dynamic_sampling/rounds"].value
    assert rounds is not None
    assert 2 <= rounds <= 4
    assert len(draw.records) == rounds * 3 * 4
    assert sum(bool(record["used"]) for record in draw.records) == 12
    assert draw.stats["dynamic_sampling/discarded"].value == pytest.approx(1 - 3 / (3 * rounds))
    assert draw.stats["reward"].count == len(draw.records)
    assert draw == source(policy, right_in_two_prompts, dynamic_sampling=4).draw(1, {})


def test_dynamic_sampling_takes_what_there_is_in_the_end() -> None:
    policy = tiny()
    few = source(policy, right_in_two_prompts, dynamic_sampling=2).draw(1, {})
    assert 0 < len(few.samples) <= 3
    none = source(policy, lambda text, row: 0.0, dynamic_sampling=2).draw(1, {})
    assert none.samples == ()
    assert source(policy, lambda text, row: 0.0, ReMax(), dynamic_sampling=2).draw(1, {}).samples == ()
    assert none.stats["dynamic_sampling/discarded"].value == 1.0
    positions = [sample.row_id for step in (1, 2) for sample in source(policy).order.draw(step - 1)]
    assert [record["row"] for record in none.records[::4]] == positions


def test_overlong_completions_pay() -> None:
    policy = tiny()
    draw = source(policy, lambda text, row: 2.0, overlong_buffer=4, overlong_penalty=0.5).draw(1, {})
    lengths = [len(branch.ids) for sample in draw.samples for branch in sample.branches]
    expected = [2.0 + 0.5 * soft_overlong_penalty(length, LIMIT, 4) for length in lengths]
    assert [record["reward"] for record in draw.records] == pytest.approx(expected)
    assert draw.records[0]["rewards"] == {"own": 2.0}


def with_likely_end(policy: Policy) -> Policy:
    """A quarter of the vocabulary ends a completion."""
    policy.model.generation_config.eos_token_id = list(range(64))
    return policy


def test_truncated_completions_can_be_left_out_of_the_loss() -> None:
    policy = with_likely_end(tiny())
    plain, masked = (source(policy, mask_truncated=mask).draw(1, {}) for mask in (False, True))
    finished = [bool(record["finished"]) for record in plain.records]
    assert set(finished) == {True, False}
    branches = list(zip(branches_of(plain), branches_of(masked), finished, strict=True))
    for before, after, done in branches:
        assert after.ids == before.ids
        assert after == before if done else after.targets == 0
    batch = pack_one(masked.samples)
    assert len(batch.streams["advantage_N"]) == len(batch.target_ids_N) < len(stream(plain, "advantage_N"))
    cut = [place for place in range(3) if not any(finished[4 * place : 4 * place + 4])]
    assert masked.idle >= set(cut)


def branches_of(draw: Draw) -> list[Branch]:
    return [branch for sample in draw.samples for branch in sample.branches]


def test_lengths_are_counted_as_trl_counts_them() -> None:
    policy = with_likely_end(tiny())
    draw = source(policy).draw(1, {})
    lengths = [branch.targets for branch in branches_of(draw)]
    ended = [length for length, record in zip(lengths, draw.records, strict=True) if record["finished"]]
    value = {name: stat.value for name, stat in draw.stats.items()}
    assert value["completions/mean_length"] == sum(lengths) / 12
    assert value["completions/min_length"] == min(lengths)
    assert value["completions/max_length"] == max(lengths)
    assert value["completions/mean_terminated_length"] == sum(ended) / len(ended)
    assert value["completions/clipped_ratio"] == 1 - len(ended) / 12


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"group": 1}, "group"),
        ({"turns": 2}, "environment"),
        ({"environment": "retri"}, "environment"),
        ({"overlong_buffer": LIMIT}, "overlong_buffer"),
        ({"minibatches": 4}, "minibatches"),
    ],
)
def test_settings_that_cannot_work_together_are_refused(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError) as caught:
        source(tiny(), **changes)
    assert caught.value.where == where


def test_settings_are_checked_together_without_a_policy() -> None:
    given = (SamplingSettings(1.0, LIMIT), 3, RolloutSettings(group=4, minibatches=4), GRPO())
    for where, field in (("", "minibatches"), ("second", "second.minibatches")):
        with pytest.raises(UsageError, match="4 of a draw of 3 prompts") as caught:
            check_together(*given, where)
        assert caught.value.where == field
    check_together(SamplingSettings(1.0, LIMIT), 4, RolloutSettings(group=4, minibatches=4), GRPO())


def test_greedy_rollouts_are_refused() -> None:
    policy = tiny()
    sampling = Sampling(ChatTemplate(policy.tokenizer), SamplingSettings(0.0, 6), 1)
    with pytest.raises(UsageError, match="temperature"):
        RolloutSource(policy, ROWS, sampling, RolloutSettings(), GRPO(), Rewards(None, {}, 1.0), {}, 0)


def test_a_row_that_comes_twice_keeps_its_scores_apart() -> None:
    """Five prompts, three a step: the second step straddles two epochs, and a prompt may stand in it twice."""
    policy, seen = tiny(), []
    scorers = scorers_of(policy)
    one = source(policy, objective=Needy(seen), scorers=scorers)
    steps = [step for step in range(1, 40) if len({sample.row_id for sample in one.order.draw(step - 1)}) < 3]
    draw = one.draw(steps[0], {})
    expected = scorers["value_N"](pack_one([Sample("", one_.prefix, one_.branches) for one_ in draw.samples]))
    assert torch.equal(stream(draw, "old_value_N"), expected)
