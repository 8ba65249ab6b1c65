"""Evaluation: outcomes item by item, unfinished answers are parse failures, best-of-n against its controls."""

from __future__ import annotations

import pytest
import torch

from trimpot.core.rows import Message, PromptRow
from trimpot.core.tensors import Batch
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.best_of import best_of_n, by_majority, by_reward, by_verifier
from trimpot.evaluation.run import evaluate, outcomes_of
from trimpot.models.tiny import tiny
from trimpot.rollout.engine import Completion
from trimpot.rollout.rewards import RewardModelJudge
from trimpot.rollout.sampling import SamplingSettings

ROWS = [PromptRow((Message("user", f"say {n}"),), "ab", slices={"task": "say"}) for n in range(3)]


def test_every_item_has_one_outcome_with_its_prompt_ids() -> None:
    policy = tiny()
    template = ChatTemplate(policy.tokenizer)
    calls = []
    outcomes = evaluate(policy, ROWS, template, 5, "run", lambda done, total: calls.append((done, total)))
    assert [one.item for one in outcomes] == [row.id for row in ROWS]
    assert outcomes[0].prompt_ids == template.prompt(ROWS[0])
    assert outcomes[0].weights == policy.weights_hash()
    assert outcomes[0].task == "say"
    assert all(one.status in ("ok", "parse_failed") for one in outcomes)
    assert calls[-1] == (3, 3)
    assert outcomes == evaluate(policy, ROWS, template, 5, "run")


def test_an_unfinished_answer_is_a_parse_failure_even_if_right() -> None:
    policy = tiny()
    ids = policy.tokenizer.encode("ab")
    group = [Completion(ids, [0.0] * 2, finished=False), Completion([*ids, 258], [0.0] * 3, finished=True)]
    ((cut, done),) = outcomes_of(policy, ROWS[:1], [(1,)], [group], "run")
    assert (cut.status, cut.score) == ("parse_failed", 0.0)
    assert (done.status, done.score) == ("ok", 1.0)


def test_a_verifier_that_fails_leaves_an_error_and_no_score(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("def score(output, row):\n    return 1 / (len(output) - 2)\n")
    policy = tiny()
    row = PromptRow((Message("user", "say"),), "ab", verifier=f"{tmp_path}/mine.py:score")
    group = [Completion([*policy.tokenizer.encode(text), 258], [], finished=True) for text in ("ab", "abc")]
    ((failed, scored),) = outcomes_of(policy, [row], [(1,)], [group], "run")
    assert (failed.status, failed.score) == ("error", None)
    assert (scored.status, scored.score) == ("ok", 1.0)


def test_majority_takes_the_most_frequent_answer_that_ended() -> None:
    policy = tiny()

    def completion(text: str, finished: bool = True) -> Completion:
        return Completion([*policy.tokenizer.encode(text), *([258] if finished else [])], [], finished=finished)

    group = [completion("b", False), completion("b", False), completion("a"), completion("ab"), completion("a")]
    outcomes = outcomes_of(policy, ROWS[:1], [(1,)], [group], "run")
    assert by_majority([(1,)], [group], outcomes) == [2]
    assert by_verifier([(1,)], [group], outcomes) == [3]
    assert by_majority([(1,)], [group[:2]], [outcomes[0][:2]]) == [0]


class LongestWins:
    """A reward model whose reward is the completion's length."""

    device = torch.device("cpu")

    def rewards(self, batch: Batch) -> torch.Tensor:
        return torch.tensor([float(high - low) for doc in batch.documents for low, high in doc.branches])


def test_best_of_n_picks_what_the_reward_model_prefers() -> None:
    policy = tiny()
    settings = SamplingSettings(1.0, 6)
    rows = [PromptRow((Message("user", f"say {n}"),), "6", verifier="contains") for n in range(20)]
    picked, best = best_of_n(
        policy,
        by_reward(RewardModelJudge([LongestWins()], "mean", 0.0)),
        rows,
        ChatTemplate(policy.tokenizer),
        settings,
        4,
        "run",
    )
    assert len(picked) == 20
    assert best.n == 4
    assert 0 <= best.mean <= best.best <= 1
    assert best.picked == pytest.approx(sum(one.score or 0 for one in picked) / 20)
    assert best.picked <= best.best
