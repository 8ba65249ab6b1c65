import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.stats import add_stats
from trimpot.core.tensors import Streams, UsesStepStatistics
from trimpot.objectives.preference.kto import KL, KTO

# Five answers. Log ratios 2, −1, 1, 3, 0; desirable, undesirable, desirable, mismatched, mismatched.
SEQUENCE_N = torch.tensor([0, 0, 1, 2, 3, 4])
LOGPROB_N = torch.tensor([-1.0, -2.0, -4.0, -1.0, -2.0, -4.0], dtype=torch.float64)
REFERENCE_N = torch.tensor([-2.0, -3.0, -3.0, -2.0, -5.0, -4.0], dtype=torch.float64)
KIND_S = torch.tensor([1.0, 0.0, 1.0, -1.0, -1.0])
STEP = {KL: 1.5}  # (3 + 0) / 2


def answers(logprob_N: torch.Tensor = LOGPROB_N, step: dict[str, float] = STEP, **given: torch.Tensor) -> Streams:
    return Streams(SEQUENCE_N, 5, logprob_N, REFERENCE_N, kind_S=KIND_S, step=step, **given)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_baseline_is_the_mean_log_ratio_of_the_mismatched_answers():
    assert isinstance(KTO(), UsesStepStatistics)
    assert KTO().step_statistics(answers())[KL].value == 1.5


def test_loss_by_hand():
    # 0.5 · (2 − 1.5), 0.5 · (1.5 − −1), 0.5 · (1 − 1.5); weights 2, 3, 2
    losses = [2 * (1 - sigmoid(0.25)), 3 * (1 - sigmoid(1.25)), 2 * (1 - sigmoid(-0.25))]
    out = KTO(0.5, desirable_weight=2.0, undesirable_weight=3.0)(answers())
    assert out.loss().item() == pytest.approx(sum(losses) / 3, abs=1e-15)
    assert out.terms[0].count == 3


def test_gradient_by_hand():
    logprob_N = LOGPROB_N.clone().requires_grad_()
    KTO(0.5, desirable_weight=2.0, undesirable_weight=3.0)(answers(logprob_N)).loss().backward()
    # ∓λ β σ(v) σ(−v) / answers; nothing for the mismatched ones
    first, second, third = (
        weight * 0.5 * sigmoid(v) * sigmoid(-v) / 3 for weight, v in ((2, 0.25), (3, 1.25), (2, -0.25))
    )
    assert logprob_N.grad.tolist() == pytest.approx([-first, -first, second, -third, 0, 0], abs=1e-15)


def test_a_negative_baseline_counts_as_0_and_a_missing_one_too_but_is_not_reported():
    negative, missing = KTO()(answers(step={KL: -2.0})), KTO()(answers(step={}))
    assert negative.loss() == missing.loss()
    assert negative.stats["kl"].value == 0.0
    assert missing.stats["kl"].value is None
    assert KTO()(answers()).stats["kl"].value == 1.5


def test_a_baseline_that_is_not_a_number_is_not_hidden():
    assert math.isnan(KTO()(answers(step={KL: math.nan})).loss())


def test_policy_equal_to_reference_gives_half_the_weights():
    loss = KTO(desirable_weight=1.0, undesirable_weight=4.0)(answers(REFERENCE_N, step={KL: 0.0})).loss()
    assert loss.item() == pytest.approx((1 + 4 + 1) / 2 / 3, abs=1e-15)


def test_statistics_by_hand_leave_the_mismatched_answers_out():
    entropy_N = torch.tensor([1.0, 1.0, 2.0, 4.0, 50.0, 50.0], dtype=torch.float64)
    stats = {name: stat.value for name, stat in KTO(0.5)(answers(entropy_N=entropy_N)).stats.items()}
    del stats["loss"]
    assert stats == {
        "kl": 1.5,
        "rewards/chosen": 0.5 * (2 + 1) / 2,
        "rewards/rejected": 0.5 * -1,
        "logps/chosen": (-3 - 1) / 2,
        "logps/rejected": -4.0,
        "logratio/chosen": (2 + 1) / 2,
        "logratio/rejected": -1.0,
        "entropy": (1 + 1 + 2 + 4) / 4,
    }


def test_bug_13_wrong_reference_model_shows_at_step_0():
    """Policy = reference: KL 0 and loss λ/2; any other reference gives log ratios that are not 0."""
    right = KTO()(answers(REFERENCE_N, step={KL: 0.0}))
    wrong = KTO()(answers(REFERENCE_N + 0.3, step={}))
    assert right.loss().item() == 0.5
    assert right.stats["logratio/chosen"].value == 0.0
    assert KTO().step_statistics(answers(REFERENCE_N))[KL].value == 0.0
    assert wrong.loss().item() != pytest.approx(0.5, abs=1e-3)
    assert wrong.stats["logratio/chosen"].value == pytest.approx((0.6 + 0.3) / 2)


def test_mismatched_answers_alone_have_no_loss():
    streams = Streams(SEQUENCE_N[:2], 1, LOGPROB_N[:2], REFERENCE_N[:2], kind_S=torch.tensor([-1.0]))
    out = KTO()(streams)
    assert out.loss().item() == 0.0
    assert out.terms[0].count == 0
    assert all(stat.value is None for stat in out.stats.values())


def take(streams: Streams, chosen: list[int]) -> Streams:
    tokens = torch.cat([torch.nonzero(streams.sequence_N == old).flatten() for old in chosen])
    sequence_N = torch.repeat_interleave(torch.arange(len(chosen)), streams.lengths_S()[chosen])
    parts = (streams.logprob_N[tokens], streams.reference_logprob_N[tokens])
    return Streams(sequence_N, len(chosen), *parts, kind_S=streams.kind_S[chosen], step=streams.step)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(5)), st.integers(1, 4))
def test_order_and_micro_batches_change_neither_baseline_nor_loss(order, cut):
    objective = KTO(0.5, desirable_weight=2.0)
    streams = answers(step={})
    parts = [take(streams, order[:cut]), take(streams, order[cut:])]
    step = {KL: add_stats(objective.step_statistics(part) for part in parts)[KL].value}
    assert step == STEP
    outs = [objective(dataclasses.replace(part, step=step)) for part in parts]
    total = sum(out.terms[0].total.item() for out in outs) / sum(out.terms[0].count for out in outs)
    whole = objective(answers())
    assert total == pytest.approx(whole.loss().item(), abs=1e-14)
    together = add_stats(out.stats for out in outs)
    assert together.keys() == whole.stats.keys()
    assert {name: one.value for name, one in together.items()} == pytest.approx(
        {name: one.value for name, one in whole.stats.items()}
    )


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("desirable_weight", -1.0)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"preference\.{field}: .* out of range"):
        check_settings(KTO(**{field: value}), "preference")
