import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.rewards import get_soft_overlong_punishment

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Streams
from trimpot.objectives.policy_gradient.dapo import DAPO, PRESETS, soft_overlong_penalty

SAMPLER_N = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
ADVANTAGE_N = torch.tensor([2.0, 2.0, -1.0], dtype=torch.float64)


def test_loss_and_gradient_by_hand():
    ratio_N = torch.tensor([1.25, 1.5, 0.7], dtype=torch.float64)
    logprob_N = (SAMPLER_N + ratio_N.log()).requires_grad_()
    given = Streams(torch.tensor([0, 0, 1]), 2, logprob_N, sampler_logprob_N=SAMPLER_N, advantage_N=ADVANTAGE_N)
    loss = DAPO()(given).loss()
    # 1.25 stays, as 1.28 is the bound; 1.5 is cut to 1.28; 0.7 at A < 0 to 0.8; all three tokens count the same
    assert loss.item() == pytest.approx(-(1.25 * 2 + 1.28 * 2 - 0.8) / 3, abs=1e-15)
    loss.backward()
    assert logprob_N.grad.tolist() == pytest.approx([-1.25 * 2 / 3, 0, 0], abs=1e-15)


@pytest.mark.parametrize(
    ("length", "penalty"),
    # limit 20, buffer 8: nothing up to 12; (12 − length) / 8 up to 20; −1 beyond
    [(0, 0), (12, 0), (13, -1 / 8), (16, -0.5), (20, -1), (21, -1), (500, -1)],
)
def test_overlong_penalty_by_hand(length, penalty):
    assert soft_overlong_penalty(length, 20, 8) == penalty


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 120))
def test_overlong_penalty_is_trls(buffer, rest, length):
    limit = buffer + rest
    theirs = get_soft_overlong_punishment(limit, buffer)(completions=None, completion_ids=[[0] * length])
    assert soft_overlong_penalty(length, limit, buffer) == pytest.approx(theirs[0])


@pytest.mark.parametrize("buffer", [0, 21])
def test_a_buffer_out_of_range_is_refused(buffer):
    with pytest.raises(UsageError, match="overlong_buffer"):
        soft_overlong_penalty(5, 20, buffer)


def test_presets_fit():
    assert PRESETS["paper"].keys() == PRESETS["trl"].keys()
    for preset in PRESETS.values():
        check_settings(DAPO(clip_high=preset["clip_high"]))
    assert DAPO().clip_high == PRESETS["paper"]["clip_high"] == 0.28
