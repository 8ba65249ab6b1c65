import dataclasses
import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.stats import add_stats
from trimpot.core.tensors import Carries, Streams, UsesStepStatistics
from trimpot.objectives.preference.beta_dpo import MEAN_MARGIN, PRESETS, RUNNING_MARGIN, BetaDPO
from trimpot.objectives.preference.dpo import DPO

# Two pairs. Sums per answer: policy −3, −4, −1, −6; reference −5, −3, −2, −6; log ratios 2, −1, 1, 0.
SEQUENCE_N = torch.tensor([0, 0, 1, 2, 3, 3])
LOGPROB_N = torch.tensor([-1.0, -2.0, -4.0, -1.0, -2.0, -4.0], dtype=torch.float64)
REFERENCE_N = torch.tensor([-2.0, -3.0, -3.0, -2.0, -3.0, -3.0], dtype=torch.float64)
OBJECTIVE = BetaDPO(beta=0.5, alpha=0.6, momentum=0.9)
# M = (0.5 · 3 + 0.5 · 1) / 2 = 1 and M0 = 0.2: β = 0.5 · (1 + 0.6 · (1 − 0.2)) = 0.74
STEP = {MEAN_MARGIN: 1.0, RUNNING_MARGIN: 0.2}


def pairs(logprob_N: torch.Tensor = LOGPROB_N, step: dict[str, float] = STEP) -> Streams:
    return Streams(SEQUENCE_N, 4, logprob_N, REFERENCE_N, step=step)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_it_has_the_protocols_of_the_loop():
    assert isinstance(OBJECTIVE, UsesStepStatistics)
    assert isinstance(OBJECTIVE, Carries)


def test_the_mean_margin_of_the_step():
    assert OBJECTIVE.step_statistics(pairs())[MEAN_MARGIN].value == 1.0


def test_loss_by_hand():
    out = OBJECTIVE(pairs())
    expected = (-math.log(sigmoid(0.74 * 3)) - math.log(sigmoid(0.74 * 1))) / 2
    assert out.loss().item() == pytest.approx(expected, abs=1e-15)
    assert out.stats["beta"].value == pytest.approx(0.74)
    assert out.stats["rewards/margins"].value == pytest.approx(1.0)  # with β0, as M is


def test_beta_has_no_gradient():
    logprob_N = LOGPROB_N.clone().requires_grad_()
    OBJECTIVE(pairs(logprob_N)).loss().backward()
    first, second = 0.74 * sigmoid(-0.74 * 3) / 2, 0.74 * sigmoid(-0.74) / 2
    assert logprob_N.grad.tolist() == pytest.approx([-first, -first, first, -second, second, second], abs=1e-15)


def test_the_running_margin_moves_by_a_tenth():
    assert OBJECTIVE.initial() == {RUNNING_MARGIN: 0.0}
    carried = OBJECTIVE.carry({RUNNING_MARGIN: 0.2}, {"rewards/margins": 1.0})
    assert carried == {RUNNING_MARGIN: pytest.approx(0.9 * 0.2 + 0.1 * 1.0)}


@pytest.mark.parametrize("metrics", [{}, {"rewards/margins": None}, {"rewards/margins": math.nan}])
def test_a_step_without_a_margin_leaves_the_running_one(metrics):
    assert OBJECTIVE.carry({RUNNING_MARGIN: 0.2}, metrics) == {RUNNING_MARGIN: 0.2}


def test_without_step_numbers_and_without_alpha_it_is_dpo():
    assert OBJECTIVE(pairs(step={})).loss() == DPO(0.5)(pairs()).loss()
    assert BetaDPO(0.5, alpha=0.0)(pairs()).loss() == DPO(0.5)(pairs()).loss()


def test_policy_equal_to_reference_gives_ln_2():
    assert OBJECTIVE(pairs(REFERENCE_N)).loss().item() == pytest.approx(math.log(2), abs=1e-15)


def test_beta_stays_above_zero_when_the_margin_collapses():
    assert OBJECTIVE(pairs(step={MEAN_MARGIN: -50.0, RUNNING_MARGIN: 0.2})).stats["beta"].value == 1e-3


def test_a_margin_that_is_not_a_number_is_not_hidden():
    assert math.isnan(OBJECTIVE(pairs(step={MEAN_MARGIN: math.nan, RUNNING_MARGIN: 0.2})).loss())


def test_the_preset_of_the_authors_code_gives_its_beta():
    """junkangwu/beta-DPO at 8280272, trainers.py, without its filter: M0 is updated first, M has no β0."""
    beta, a, gap_mean, gap = 0.1, 0.6, 0.7, 2.5
    updated = 0.9 * gap_mean + 0.1 * gap
    theirs = beta * (1 + a * (gap - updated))
    step = {MEAN_MARGIN: beta * gap, RUNNING_MARGIN: beta * gap_mean}
    assert BetaDPO(**PRESETS["authors_code"])(pairs(step=step)).stats["beta"].value == pytest.approx(theirs, abs=1e-15)


def test_micro_batches_see_the_beta_of_the_step():
    whole = pairs(step={})
    first = Streams(SEQUENCE_N[:3], 2, LOGPROB_N[:3], REFERENCE_N[:3])
    second = Streams(SEQUENCE_N[3:] - 2, 2, LOGPROB_N[3:], REFERENCE_N[3:])
    counted = add_stats(OBJECTIVE.step_statistics(part) for part in (first, second))
    assert counted == OBJECTIVE.step_statistics(whole)
    step = {MEAN_MARGIN: counted[MEAN_MARGIN].value, RUNNING_MARGIN: 0.2}
    outs = [OBJECTIVE(dataclasses.replace(part, step=step)) for part in (first, second)]
    total = sum(out.terms[0].total.item() for out in outs) / sum(out.terms[0].count for out in outs)
    assert total == pytest.approx(OBJECTIVE(pairs()).loss().item(), abs=1e-15)
    assert add_stats(out.stats for out in outs)["beta"].value == pytest.approx(0.74)


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("alpha", -0.1), ("momentum", 1.1)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"preference\.{field}: .* out of range"):
        check_settings(BetaDPO(**{field: value}), "preference")
