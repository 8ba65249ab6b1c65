"""A student beside its teacher: one pass each, and only teachers that read the same tokens."""

from __future__ import annotations

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import Streams, Wanted, pack_one
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.policy import Policy
from trimpot.models.student import Student
from trimpot.models.tiny import tiny
from trimpot.objectives.distill.gkd import GKD

SAMPLES = [
    Sample("a", (1, 2, 3), (Branch((4, 5), (True, True)), Branch((6, 7), (False, True)))),
    Sample("b", (), (Branch((7, 8, 9), (False, True, True)),)),
]
BATCH = pack_one(SAMPLES)
WANTED = Wanted(GKD.needs, temperature=0.7)


def teacher() -> Policy:
    policy = tiny("0.5m", seed=1)
    policy.model.requires_grad_(False)
    return policy


def logits(policy: Policy) -> torch.Tensor:
    hidden = policy.hidden(BATCH.ids_T, BATCH.positions_T, _plan())[BATCH.predict_from_N]
    return hidden @ policy.head()[0].T


def _plan():
    from trimpot.models.attention import plan_for

    return plan_for(BATCH)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_divergence_is_between_the_two_whole_distributions(beta: float) -> None:
    policy, other, gkd = tiny(), teacher(), GKD(beta)
    streams = Student(policy, other, gkd.divergence).streams(BATCH, WANTED)
    assert torch.allclose(streams["divergence_N"], gkd.divergence(logits(policy), logits(other)), atol=1e-5)
    assert (streams["divergence_N"] > 1e-4).all()


def test_the_other_streams_are_the_policys_own() -> None:
    policy = tiny()
    made, own = Student(policy, teacher(), GKD().divergence).streams(BATCH, WANTED), policy.streams(BATCH, WANTED)
    assert all(torch.equal(made[name], own[name]) for name in own)
    assert set(made) - set(own) == {"divergence_N"}


def test_the_teacher_is_asked_only_where_the_divergence_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student(tiny(), teacher(), GKD().divergence)
    monkeypatch.setattr(student.teacher, "hidden", None)
    assert "divergence_N" not in student.streams(BATCH, Wanted(("logprob_N",)))


@pytest.mark.parametrize("trainable", ["all", "lora"])
def test_the_student_approaches_its_teacher_which_stays(trainable: str) -> None:
    policy, other = tiny(), teacher()
    choose_trainable(policy, TrainableSettings(trainable, lora_rank=4))
    before, student, gkd = other.weights_hash(), Student(policy, other, GKD(0.5).divergence), GKD(0.5)
    optimizer = torch.optim.AdamW(student.trainable().values(), lr=1e-2)
    losses = []
    for _ in range(15):
        out = gkd(Streams(BATCH.sequence_N, BATCH.sequences, **student.streams(BATCH, WANTED)))
        out.loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(out.loss().item())
    assert losses[-1] < 0.7 * losses[0]
    assert other.weights_hash() == before
    assert student.models() == {"model": policy}
    assert student.trainable().keys() == policy.trainable().keys()


def test_a_student_with_its_teachers_weights_has_no_divergence() -> None:
    streams = Student(tiny("0.5m", seed=1), teacher(), GKD().divergence).streams(BATCH, WANTED)
    assert streams["divergence_N"].abs().max() < 1e-6


def test_bug_08_teacher_and_student_templates_differ() -> None:
    """LLaMA-Factory#2509: with another template in teaching than in use, 26% right in place of 57%."""
    policy, other = tiny(), teacher()
    other.tokenizer.chat_template = other.tokenizer.chat_template.replace("<|im_end|>", "<|im_end|> ")
    with pytest.raises(
        UsageError, match=r"^teacher: has another chat template \(hash \w+\) than the student"
    ) as caught:
        Student(policy, other, GKD().divergence)
    assert "\n" not in str(caught.value)


def test_a_teacher_of_another_vocabulary_is_refused() -> None:
    policy, other = tiny(), teacher()
    other.tokenizer.add_tokens(["wider"])
    with pytest.raises(UsageError, match=r"^teacher: has a vocabulary of 260 tokens, the student 259\."):
        Student(policy, other, GKD().divergence)


def test_virtual_tokens_are_refused_on_either_side() -> None:
    learned = tiny()
    choose_trainable(learned, TrainableSettings("prefix", virtual_tokens=2))
    with pytest.raises(UsageError, match="2 virtual tokens, which a teacher cannot read"):
        Student(learned, teacher(), GKD().divergence)
    with pytest.raises(UsageError, match="2 virtual tokens, which a student cannot read"):
        Student(tiny(), learned, GKD().divergence)
