import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.orpo import ORPO, PRESETS
from trimpot.objectives.preference.pairs import log_odds

# Two pairs. Sums per answer: policy −3, −4, −1, −6; reference −5, −3, −2, −6; log ratios 2, −1, 1, 0.
SEQUENCE_N = torch.tensor([0, 0, 1, 2, 3, 3])
LOGPROB_N = torch.tensor([-1.0, -2.0, -4.0, -1.0, -2.0, -4.0], dtype=torch.float64)
REFERENCE_N = torch.tensor([-2.0, -3.0, -3.0, -2.0, -3.0, -3.0], dtype=torch.float64)


def pairs(logprob_N: torch.Tensor = LOGPROB_N) -> Streams:
    return Streams(SEQUENCE_N, 4, logprob_N, REFERENCE_N)


def gradient(objective: Objective) -> list[float]:
    logprob_N = LOGPROB_N.clone().requires_grad_()
    objective(pairs(logprob_N)).loss().backward()
    return logprob_N.grad.tolist()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def odds(mean_logprob: float) -> float:
    return math.exp(mean_logprob) / (1 - math.exp(mean_logprob))


# Log-probs per token −1.5, −4, −1, −3.
RATIOS = [math.log(odds(-1.5) / odds(-4.0)), math.log(odds(-1.0) / odds(-3.0))]
ODDS_LOSS = sum(-math.log(sigmoid(ratio)) for ratio in RATIOS) / 2


def test_loss_by_hand():
    by_token, by_sequence = (1 + 2 + 1) / 3, (1.5 + 1) / 2
    assert ORPO(0.3, "token")(pairs()).loss().item() == pytest.approx(by_token + 0.3 * ODDS_LOSS, abs=1e-15)
    assert ORPO(0.3, "sequence")(pairs()).loss().item() == pytest.approx(by_sequence + 0.3 * ODDS_LOSS, abs=1e-15)


def test_gradient_by_hand():
    # d log odds / d log p = 1 / (1 − p); ∓λ σ(−ratio) / pairs / length before it
    means, lengths, signs = [-1.5, -4.0, -1.0, -3.0], [2, 1, 1, 2], [-1, 1, -1, 1]
    per_answer = [
        sign * 0.3 * sigmoid(-RATIOS[at // 2]) / 2 / (1 - math.exp(mean)) / length
        for at, (mean, length, sign) in enumerate(zip(means, lengths, signs, strict=True))
    ]
    nll = [-1 / 3, 0, -1 / 3, 0]
    expected = [per_answer[at] + nll[at] for at in SEQUENCE_N.tolist()]
    assert gradient(ORPO(0.3, "token")) == pytest.approx(expected, abs=1e-14)


def test_equally_likely_answers_give_the_nll_plus_ln_2():
    streams = Streams(torch.tensor([0, 1, 1]), 2, torch.full((3,), -0.7, dtype=torch.float64))
    assert ORPO(beta=0.3)(streams).loss().item() == pytest.approx(0.7 + 0.3 * math.log(2), abs=1e-15)


def test_statistics_have_the_names_of_trl():
    stats = ORPO(beta=0.3)(pairs()).stats
    assert stats["log_odds_chosen"].value == pytest.approx(sum(RATIOS) / 2)
    assert stats["log_odds_ratio"].value == pytest.approx(-ODDS_LOSS)
    assert stats["nll_loss"].value == pytest.approx(4 / 3)
    assert stats["logps/chosen"].value == (-1.5 - 1) / 2
    assert stats["rewards/chosen"].value == pytest.approx(0.3 * (-1.5 - 1) / 2)


@pytest.mark.parametrize("mean_logprob", [-1e-3, -0.1, -math.log(2), -3.0, -30.0, -200.0])
def test_log_odds_keep_their_digits_in_float32(mean_logprob):
    exact = mean_logprob - math.log(-math.expm1(mean_logprob))
    assert log_odds(torch.tensor([mean_logprob])).item() == pytest.approx(exact, rel=1e-6, abs=1e-6)


def test_a_certain_answer_has_finite_odds_and_gradient():
    for dtype in (torch.float32, torch.float64):
        logprob_N = torch.zeros(2, dtype=dtype, requires_grad=True)
        loss = ORPO()(Streams(torch.tensor([0, 1]), 2, logprob_N)).loss()
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logprob_N.grad).all()


def test_presets_name_the_two_normalisations():
    assert ORPO(**PRESETS["paper"]).nll_normalisation == "sequence"
    assert ORPO(**PRESETS["trl"]).nll_normalisation == "token"


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("nll_normalisation", "sum")])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"preference\.{field}: "):
        check_settings(ORPO(**{field: value}), "preference")
