"""A process reward model reads its logits at the tokens that end the steps."""

from __future__ import annotations

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, StepsRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import Batch, Streams, Wanted, pack_one
from trimpot.data.template import ChatTemplate
from trimpot.models import reward
from trimpot.models.reward import RewardModel
from trimpot.models.tiny import tiny
from trimpot.objectives.reward.process_reward import ProcessReward

SAMPLES = [
    Sample("a", (1, 2), (Branch((3, 9, 4, 5, 9), (False, True, False, False, True)), Branch((6, 9), (False, True)))),
    Sample("b", (), (Branch((7, 9), (False, True)),)),
]
STEPS = [(1, 2, 3, 9), (1, 2, 3, 9, 4, 5, 9), (1, 2, 6, 9), (7, 9)]
"""Everything up to and with the token that ends each step."""


def judge() -> RewardModel:
    model = reward.from_policy(tiny())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.nn.init.normal_(model.model.score.weight)
    return model


def test_each_step_is_read_at_the_token_that_ends_it() -> None:
    model = judge()
    scores = model.scores_of_steps(pack_one(SAMPLES)).tolist()
    model.model.set_attn_implementation("sdpa")
    plain = [model.model(torch.tensor([ids])).logits[0, 0].item() for ids in STEPS]
    assert scores == pytest.approx(plain, abs=1e-5)


def test_streams_are_of_steps_where_steps_are_wanted_and_else_of_sequences() -> None:
    model, batch = judge(), pack_one(SAMPLES)
    steps = model.streams(batch, Wanted(ProcessReward.needs))
    assert {name: len(values) for name, values in steps.items()} == {"reward_N": 4}
    whole = model.streams(batch, Wanted(("reward_S",)))
    assert {name: len(values) for name, values in whole.items()} == {"reward_S": 3}
    # Here every branch ends with its last step's token.
    assert torch.allclose(steps["reward_N"][[1, 2, 3]], whole["reward_S"], atol=1e-6)


@pytest.mark.parametrize("prefix", [(1, 2), ()])
def test_a_branch_that_begins_with_the_end_of_a_step_is_refused(prefix: tuple[int, ...]) -> None:
    bad = Sample("x", prefix, (Branch((9, 4), (True, False)),))
    for samples in ([bad], [SAMPLES[1], bad], [SAMPLES[0], bad]):
        with pytest.raises(ValueError, match="the first of its branch"):
            judge().scores_of_steps(pack_one(samples))


def test_it_learns_the_labels_of_steps_from_rows() -> None:
    policy = tiny()
    model, template = reward.from_policy(policy), ChatTemplate(policy.tokenizer)
    prompt = (Message("user", "1+1+1"),)
    rows = [StepsRow(prompt, ("1+1=2", "2+1=3"), (True, True)), StepsRow(prompt, ("1+1=2", "2+1=4"), (True, False))]
    batch: Batch = pack_one([template.steps(row, 128).sample for row in rows])
    assert batch.streams["label_N"].tolist() == [1, 1, 1, 0]
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=3e-3)
    for _ in range(40):
        made = model.streams(batch, Wanted(ProcessReward.needs))
        out = ProcessReward()(Streams(batch.sequence_N, batch.sequences, **made, **batch.streams))
        out.loss().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert out.stats["accuracy"].value == 1.0
    assert out.stats["accuracy/wrong"].value == 1.0


def test_a_process_reward_model_has_no_virtual_tokens() -> None:
    from trimpot.models.adapters import TrainableSettings, choose_trainable

    policy = tiny()
    choose_trainable(policy, TrainableSettings("prefix", virtual_tokens=2))
    with pytest.raises(UsageError, match="2 virtual tokens"):
        reward.from_policy(policy)
