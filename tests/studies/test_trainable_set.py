"""What trains under each choice, counted by hand; the study at its smallest, on its own task and on a user's rows."""

import json
import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message
from trimpot.knobs.library import library
from trimpot.models.tiny import tiny
from trimpot.studies import trainable_set
from trimpot.studies.second_task import choose, mean_loss
from trimpot.studies.subject import template_of

SMALL = {
    "stop_at": 1.0, "sft_steps": 40, "prompts": 64, "pairs": 0, "held_out": 16, "steps": 12, "batch": 16,
}  # fmt: skip
STUDY = trainable_set.STUDY

HIDDEN, KEYS, WIDE, VOCABULARY = 64, 32, 170, 259
EMBEDDING = VOCABULARY * HIDDEN
LAYER = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * KEYS + 3 * HIDDEN * WIDE + 2 * HIDDEN
"""Queries and output, keys and values, the gated unit, two norms."""
LORA_OF_RANK_ONE = 2 * (2 * (HIDDEN + HIDDEN) + 2 * (HIDDEN + KEYS) + 3 * (HIDDEN + WIDE))
"""Inputs plus outputs of all linear modules of both layers."""


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "seed"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("kind", "size", "count"),
    [
        ("head", 0, EMBEDDING),
        ("last_k", 1, LAYER),
        ("last_k", 2, 2 * LAYER),
        ("lora", 1, LORA_OF_RANK_ONE),
        ("lora", 16, 16 * LORA_OF_RANK_ONE),
        ("all", 0, EMBEDDING + 2 * LAYER + HIDDEN),
    ],
)
def test_so_many_parameters_train(kind, size, count):
    policy = tiny("0.1m")
    choose(policy, kind, size, seed=0)
    assert sum(value.numel() for value in policy.trainable().values()) == count


def test_the_head_trains_apart_from_the_input_embedding_and_begins_as_it():
    policy = tiny("0.1m")
    samples = [template_of(policy).chat(ChatRow((Message("user", "ab"), Message("assistant", "ba"))), 64).sample]
    before = mean_loss(policy, samples)
    choose(policy, "head", 0, seed=0)
    assert mean_loss(policy, samples) == pytest.approx(before, abs=1e-6)
    weight, _ = policy.head()
    with torch.no_grad():
        weight.zero_()
    assert float(policy.model.get_input_embeddings().weight.abs().sum()) > 0
    # Equal logits: every token has the probability 1 / vocabulary.
    assert mean_loss(policy, samples) == pytest.approx(math.log(VOCABULARY))
    with pytest.raises(ValueError, match="no samples"):
        mean_loss(policy, [])


def test_a_run_is_a_function_of_its_arguments_and_measures_both_tasks(kept):
    trainable_set.prepare(SMALL, 3, kept)
    values = {**STUDY.budgets["full"].arms["last layer"], "learning_rate": 3e-3}
    first, second = (trainable_set.run(values, SMALL, 3, kept) for _ in range(2))
    assert first.pop("seconds") > 0
    assert second.pop("seconds") > 0
    assert first == second
    assert first["parameters"] == LAYER
    assert first["score"] == first["accuracy"]
    assert set(first) >= {"answer_loss", "source_loss", "source_accuracy"}
    still = trainable_set.run({**values, "learning_rate": 1e-12}, SMALL, 3, kept)
    assert still["forgetting"] == pytest.approx(0, abs=1e-4)
    assert first["source_loss"] == pytest.approx(still["source_loss"] + first["forgetting"], abs=1e-3)
    assert first["answer_loss"] < still["answer_loss"]


def test_on_rows_of_ones_own_the_score_is_the_negated_loss_and_embedded_questions_are_what_may_be_forgotten(kept):
    rows = [[{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": f"{n}"}] for n in range(80)]
    data = kept / "chats.jsonl"
    data.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    own = {**SMALL, "subject": "own", "model": "tiny-0.1m", "data": str(data), "sft_steps": 0, "held_out": 8}
    trainable_set.prepare(own, 3, kept)
    values = {**STUDY.budgets["full"].arms["LoRA, rank 1"], "learning_rate": 1e-3}
    metrics = trainable_set.run(values, own, 3, kept)
    assert metrics["score"] == -metrics["answer_loss"]
    assert "accuracy" not in metrics
    assert math.isfinite(metrics["forgetting"])
    with pytest.raises(UsageError, match="Give conversations of your own"):
        trainable_set.prepare({**own, "data": "embedded:reasoning-easy"}, 3, kept)


def test_budgets_have_seeds_a_control_and_the_arms_of_every_claim():
    for budget in STUDY.budgets.values():
        assert budget.seeds >= 5
        assert STUDY.control.applies(budget.arms)
    full, quick = STUDY.budgets["full"], STUDY.budgets["quick"]
    assert STUDY.tests_of(full).keys() == STUDY.tests.keys()
    assert quick.arms.items() <= full.arms.items()
    assert set(STUDY.claims.values()) <= STUDY.tests.keys()
    assert all(library().claims[name].study == STUDY.id for name in STUDY.claims)
    assert {name for name in STUDY.claims if library().claims[name].direction == "equal"} == set(STUDY.margins)
    assert max(STUDY.tuning.seeds) < STUDY.first_seed
