"""The reference's log-probs: once for each row and set of weights, in memory and on disk."""

from __future__ import annotations

import pytest
import torch

from trimpot.core.progress import ignore
from trimpot.core.rows import FeedbackRow, Message, PreferencePair
from trimpot.core.tensors import pack_one
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.tiny import tiny
from trimpot.training.reference import RowReference, reference_of, row_keys


def samples_of(policy, words=("yes", "no", "maybe")):
    rows = [
        PreferencePair((Message("user", f"pick {n}"),), (Message("assistant", word),), (Message("assistant", "x"),))
        for n, word in enumerate(words)
    ]
    return tokenise(rows, ChatTemplate(policy.tokenizer), 100).samples


def batch_of(policy, words=("yes", "no", "maybe")):
    return pack_one(samples_of(policy, words))


class Counting:
    def __init__(self, score) -> None:
        self.score, self.calls = score, 0

    def __call__(self, batch):
        self.calls += 1
        return self.score(batch)


@pytest.mark.parametrize("lora", [False, True])
def test_a_row_runs_once_and_another_run_reads_it_from_disk(lora, tmp_path) -> None:
    policy = tiny("0.1m")
    if lora:
        choose_trainable(policy, TrainableSettings("lora", lora_rank=2))
    batch, plain = batch_of(policy), reference_of(policy)
    first = RowReference(policy, tmp_path)
    first.score = Counting(first.score)
    for _ in range(3):
        assert torch.equal(first(batch), plain(batch))
    assert first.score.calls == 1
    first.fill([], 100, "cpu", ignore)
    assert not list(tmp_path.iterdir())
    fresh = RowReference(policy, tmp_path)
    fresh.fill(samples_of(policy), 60, "cpu", ignore)
    again = RowReference(policy, tmp_path)
    again.score = Counting(again.score)
    assert torch.allclose(again(batch), plain(batch), atol=1e-5)
    assert again.score.calls == 0
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_other_weights_rows_and_temperatures_meet_no_old_numbers(tmp_path) -> None:
    policy, other = tiny("0.1m"), tiny("0.1m", seed=1)
    RowReference(policy, tmp_path).fill(samples_of(policy), 60, "cpu", ignore)
    assert not RowReference(other, tmp_path).rows
    changed = batch_of(policy, ("yes", "no", "never"))
    known = RowReference(policy, tmp_path)
    assert torch.allclose(known(changed), reference_of(policy)(changed), atol=1e-5)
    warm = RowReference(policy, tmp_path, temperature=2.0)
    assert torch.allclose(warm(changed), reference_of(policy, 2.0)(changed), atol=1e-5)


def test_training_the_policy_does_not_change_where_lora_looks(tmp_path) -> None:
    policy = tiny("0.1m")
    choose_trainable(policy, TrainableSettings("lora", lora_rank=2))
    before = RowReference(policy, tmp_path).file
    with torch.no_grad():
        for value in policy.trainable().values():
            value.add_(0.1)
    assert RowReference(policy, tmp_path).file == before


def test_a_mismatched_answer_of_another_neighbour_is_another_row() -> None:
    policy = tiny("0.1m")

    def keys(neighbour: str) -> list[str]:
        rows = [
            FeedbackRow((Message("user", f"q{n}"),), (Message("assistant", text),), n == 0)
            for n, text in enumerate(("mine", neighbour))
        ]
        return row_keys(pack_one(tokenise(rows, ChatTemplate(policy.tokenizer), 100).samples), 1.0)

    assert keys("one")[0] != keys("two")[0]


def test_a_row_that_was_not_filled_in_is_an_error_not_another_pass(tmp_path) -> None:
    policy = tiny("0.1m")
    known = RowReference(policy, tmp_path)
    known.fill(samples_of(policy), 60, "cpu", ignore)
    known(batch_of(policy))
    with pytest.raises(RuntimeError, match="not there when the reference was filled"):
        known(batch_of(policy, ("another",)))
