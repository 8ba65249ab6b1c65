"""Verifiers, the user's own reward, and rollouts as a source."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, PromptRow
from trimpot.data.template import ChatTemplate
from trimpot.models.tiny import tiny
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.rollout.engine import SamplingSettings
from trimpot.rollout.source import GroupSettings, RolloutSource
from trimpot.rollout.verifiers import Score, contains, exact, find_verifier


def row(answer: str, prompt: str = "q") -> PromptRow:
    return PromptRow((Message("user", prompt),), answer)


@pytest.mark.parametrize(
    ("output", "answer", "score"),
    [
        ("12", "12", Score(1.0)),
        (" 12.\n", "12", Score(1.0)),
        ("13", "12", Score(0.0)),
        ("The answer is 12", "12", Score(0.0, "parse_failed")),
        ("", "12", Score(0.0, "parse_failed")),
        ("yes", "Yes", Score(1.0)),
        ("No", "Yes", Score(0.0)),
        ("Yes\nbecause", "Yes", Score(0.0, "parse_failed")),
        ("", "Yes", Score(0.0, "parse_failed")),
    ],
)
def test_exact(output: str, answer: str, score: Score) -> None:
    assert exact(output, row(answer)) == score


def test_contains_wants_the_whole_word() -> None:
    assert contains("it is 12, surely", row("12")).value == 1.0
    assert contains("it is 123", row("12")).value == 0.0


def test_own_reward_function(tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text(
        "def score(output, row): return len(output)\n"
        "def bad(output, row): return float('nan')\n"
        "def two(output, row): return [1.0, 2.0]\n"
    )
    assert find_verifier(f"{file}:score")("abc", row("x")) == Score(3.0)
    for name in ("bad", "two"):
        with pytest.raises(UsageError, match="row"):
            find_verifier(f"{file}:{name}")("abc", row("x"))
    for name in (f"{file}:missing", f"{tmp_path}/none.py:score", "exakt"):
        with pytest.raises(UsageError):
            find_verifier(name)


def source(seed: int = 0) -> RolloutSource:
    policy = tiny("0.1m")
    rows = [row("x", f"prompt {n}") for n in range(5)]
    return RolloutSource(
        rows, ChatTemplate(policy.tokenizer), 3, GroupSettings(group=4), SamplingSettings(1.0, 6), GRPO(), seed
    )


def test_a_draw_depends_on_seed_step_and_weights_alone() -> None:
    policy = tiny("0.1m")
    first, again, later = source().draw(2, policy), source().draw(2, policy), source().draw(3, policy)
    assert first == again
    assert first != later
    assert len(first.samples) == 3
    assert all(len(sample.branches) == 4 for sample in first.samples)
    assert first.stats["frac_reward_zero_std"].count == 3
    assert len(first.records) == 12


def test_rewards_become_group_advantages_of_their_own_completions(tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text("def score(output, row): return float(sum(map(ord, output)))\n")
    policy = tiny("0.1m")
    one = RolloutSource(
        [row("x", "a"), row("x", "b")], ChatTemplate(policy.tokenizer), 2,
        GroupSettings(group=4, reward=f"{file}:score"), SamplingSettings(1.0, 6), GRPO(), 0,
    )  # fmt: skip
    draw = one.draw(1, policy)
    rewards = torch.tensor([record["reward"] for record in draw.records], dtype=torch.float64).view(2, 4)
    texts = [record["completion"] for record in draw.records]
    assert [sum(map(ord, str(text))) for text in texts] == rewards.flatten().tolist()
    expected = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    given = torch.tensor([branch.streams["advantage_S"] for sample in draw.samples for branch in sample.branches])
    assert torch.allclose(given.double(), expected.flatten(), atol=1e-6)


def test_greedy_rollouts_are_refused() -> None:
    policy = tiny("0.1m")
    with pytest.raises(UsageError, match="temperature"):
        RolloutSource(
            [row("x")], ChatTemplate(policy.tokenizer), 1, GroupSettings(), SamplingSettings(0.0, 6), GRPO(), 0
        )
