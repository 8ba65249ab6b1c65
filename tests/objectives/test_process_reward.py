import math

import pytest
import torch
from transformers.loss.loss_utils import ForTokenClassification

from trimpot.core.errors import UsageError
from trimpot.core.tensors import Streams
from trimpot.objectives.reward.process_reward import SOLUTION_SCORES, ProcessReward, solution_score

LOGIT_N = torch.tensor([2.0, -0.5, 0.25, -1.0], dtype=torch.float64)
LABEL_N = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)


def steps(reward_N: torch.Tensor, label_N: torch.Tensor = LABEL_N) -> Streams:
    return Streams(torch.tensor([0, 0, 1, 1])[: len(reward_N)], 2, reward_N=reward_N, label_N=label_N)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_loss_is_the_mean_cross_entropy_of_the_steps():
    expected = -(log_sigmoid(2.0) + log_sigmoid(-0.5) + log_sigmoid(-0.25) + log_sigmoid(1.0)) / 4
    out = ProcessReward()(steps(LOGIT_N))
    assert out.loss().item() == pytest.approx(expected, abs=1e-14)
    assert out.stats["loss"].value == pytest.approx(expected, abs=1e-14)


def test_gradient_is_the_probability_less_the_label_over_the_steps():
    reward_N = LOGIT_N.clone().requires_grad_()
    ProcessReward()(steps(reward_N)).loss().backward()
    assert torch.allclose(reward_N.grad, (torch.sigmoid(LOGIT_N) - LABEL_N) / 4, atol=1e-15)
    assert torch.autograd.gradcheck(lambda r: ProcessReward()(steps(r)).loss(), (LOGIT_N.clone().requires_grad_(),))


def test_value_and_gradient_equal_transformers_token_classification_with_two_labels():
    """What TRL's PRMTrainer trained with: two logits per token, −100 where no step ends."""
    wrong_N = torch.tensor([0.3, -0.2, 0.1, 1.0], dtype=torch.float64)
    reward_N = LOGIT_N.clone().requires_grad_()
    ours = ProcessReward()(steps(reward_N)).loss()
    two_N = LOGIT_N.clone().requires_grad_()
    logits = torch.zeros(2, 4, 2, dtype=torch.float64)
    labels = torch.full((2, 4), -100)
    places = (torch.tensor([0, 0, 1, 1]), torch.tensor([1, 3, 0, 2]))
    logits = logits.index_put(places, torch.stack([wrong_N, wrong_N + two_N], dim=1))
    labels[places] = LABEL_N.long()
    theirs = ForTokenClassification(logits, labels, SimpleConfig)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    (our_grad,), (their_grad,) = torch.autograd.grad(ours, reward_N), torch.autograd.grad(theirs, two_N)
    assert torch.allclose(our_grad, their_grad, atol=1e-6)


class SimpleConfig:
    num_labels = 2


def test_statistics_by_class():
    stats = ProcessReward()(steps(LOGIT_N)).stats
    assert stats["accuracy"].value == 0.5
    assert (stats["accuracy/right"].total, stats["accuracy/right"].count) == (1, 2)
    assert (stats["accuracy/wrong"].total, stats["accuracy/wrong"].count) == (1, 2)
    assert stats["positive_share"].value == 0.5
    only_right = ProcessReward()(steps(LOGIT_N, torch.ones(4))).stats
    assert only_right["accuracy/wrong"].value is None
    assert only_right["positive_share"].value == 1.0


def test_an_undecided_step_counts_as_judged_wrong():
    out = ProcessReward()(steps(torch.zeros(4).double()))
    assert out.loss().item() == pytest.approx(math.log(2), abs=1e-15)
    assert (out.stats["accuracy/right"].value, out.stats["accuracy/wrong"].value) == (0.0, 1.0)


def test_solution_scores_by_hand():
    logits = torch.tensor([0.0, math.log(3.0), -math.log(4.0), math.log(3.0)])  # p = 1/2, 3/4, 1/5, 3/4
    assert solution_score(logits, "min") == pytest.approx(0.2, abs=1e-6)
    assert solution_score(logits, "product") == pytest.approx(0.5 * 0.75 * 0.2 * 0.75, abs=1e-6)
    assert solution_score(logits, "last") == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize("how", SOLUTION_SCORES)
def test_solution_scores_at_the_edges(how):
    assert solution_score(torch.zeros(0), how) is None
    assert solution_score(torch.tensor([800.0, 800.0]), how) == 1.0
    assert solution_score(torch.tensor([-800.0]), how) == 0.0
    with pytest.raises(ValueError, match=r"\[steps\]"):
        solution_score(torch.zeros(2, 2), how)


def test_an_unknown_way_is_named():
    with pytest.raises(UsageError, match=r"'prod' is unknown\. Did you mean 'product'"):
        solution_score(torch.zeros(2), "prod")
