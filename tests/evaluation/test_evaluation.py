"""Evaluation: outcomes item by item, unfinished answers are parse failures, best-of-n against its controls."""

from __future__ import annotations

import pytest
import torch

from trimpot.core.rows import Message, PromptRow
from trimpot.core.tensors import Batch
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.run import best_of_n, evaluate, outcome
from trimpot.models.tiny import tiny
from trimpot.rollout.engine import Completion, SamplingSettings

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
    cut = outcome(policy, ROWS[0], (1,), Completion(ids, [0.0] * 2, finished=False), "run", "w")
    done = outcome(policy, ROWS[0], (1,), Completion([*ids, 258], [0.0] * 3, finished=True), "run", "w")
    assert (cut.status, cut.score) == ("parse_failed", 0.0)
    assert (done.status, done.score) == ("ok", 1.0)


class LongestWins:
    """A reward model whose reward is the completion's length."""

    device = torch.device("cpu")

    def rewards(self, batch: Batch) -> torch.Tensor:
        return torch.tensor([float(high - low) for doc in batch.documents for low, high in doc.branches])


def test_best_of_n_picks_what_the_reward_model_prefers() -> None:
    policy = tiny()
    settings = SamplingSettings(1.0, 6)
    rows = [PromptRow((Message("user", f"say {n}"),), "6", verifier="contains") for n in range(20)]
    picked, best = best_of_n(policy, LongestWins(), rows, ChatTemplate(policy.tokenizer), settings, 4, "run")
    assert len(picked) == 20
    assert best.n == 4
    assert 0 <= best.mean <= best.best <= 1
    assert best.picked == pytest.approx(sum(one.score or 0 for one in picked) / 20)
    assert best.picked <= best.best
