"""A real reward model from its folder; torch, hence slow."""

import pytest

from tests.evaluation.judges.cases import pair
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, PreferencePair
from trimpot.evaluation.judges.judge import Question
from trimpot.evaluation.judges.reward_judge import load_reward_judge

pytestmark = pytest.mark.slow


def test_rewards_of_a_folder_are_those_of_the_model_on_tokenised_pairs(tmp_path):
    import torch

    from trimpot.core.tensors import pack_one
    from trimpot.data.prepare import tokenise
    from trimpot.data.template import ChatTemplate
    from trimpot.models.load import load
    from trimpot.models.reward import from_policy

    policy = load("tiny-0.1m")
    model = from_policy(policy)
    torch.nn.init.normal_(model.model.score.weight, generator=torch.Generator().manual_seed(0))
    model.model.save_pretrained(tmp_path / "reward")
    model.tokenizer.save_pretrained(tmp_path / "reward")
    judge = load_reward_judge(str(tmp_path / "reward"))
    prompt, one, other = (Message("user", "Question 1?"),), "an answer", "another one"
    row = PreferencePair(prompt, (Message("assistant", one),), (Message("assistant", other),))
    samples = tokenise([row], ChatTemplate(policy.tokenizer), 512).samples
    with torch.no_grad():
        theirs = model.rewards(pack_one(samples)).tolist()
    assert judge.rewards([(prompt, one), (prompt, other)], lambda *_: None) == pytest.approx(theirs, abs=1e-5)
    assert theirs[0] != theirs[1]
    found = judge.verdicts([Question(pair(1, a=one, b=other), swapped) for swapped in (False, True)])
    assert [each.first for each in found] == [float(theirs[0] > theirs[1]), float(theirs[0] < theirs[1])]
    with pytest.raises(UsageError, match="exceeds 2048 tokens"):
        judge.verdicts([Question(pair(2, a="x" * 20000), False)])
    policy.model.save_pretrained(tmp_path / "policy")
    policy.tokenizer.save_pretrained(tmp_path / "policy")
    with pytest.raises(UsageError, match="has no reward head"):
        load_reward_judge(str(tmp_path / "policy"))
