import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.cpo import CPO, PRESETS
from trimpot.objectives.preference.dpo_reference_free import ReferenceFreeDPO

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


# log-probs −3, −4, −1, −6 at β = 0.5: margins 0.5 and 2.5
PREFERENCE = (-math.log(sigmoid(0.5)) - math.log(sigmoid(2.5))) / 2


def test_loss_by_hand():
    by_token, by_sum = (1 + 2 + 1) / 3, (3 + 1) / 2
    assert CPO(0.5, 0.3, "token")(pairs()).loss().item() == pytest.approx(PREFERENCE + 0.3 * by_token, abs=1e-15)
    assert CPO(0.5, 0.3, "sum")(pairs()).loss().item() == pytest.approx(PREFERENCE + 0.3 * by_sum, abs=1e-15)


def test_gradient_by_hand():
    first, second = (0.5 * sigmoid(-m) / 2 for m in (0.5, 2.5))
    preference = [-first, -first, first, -second, second, second]
    for normalisation, per_chosen_token in (("token", 0.3 / 3), ("sum", 0.3 / 2)):
        nll = [-per_chosen_token, -per_chosen_token, 0, -per_chosen_token, 0, 0]
        expected = [a + b for a, b in zip(preference, nll, strict=True)]
        assert gradient(CPO(0.5, 0.3, normalisation)) == pytest.approx(expected, abs=1e-15)


def test_counts_are_pairs_and_tokens_or_answers():
    counts = {n: [(t.name, t.count) for t in CPO(nll_normalisation=n)(pairs()).terms] for n in ("token", "sum")}
    assert counts == {"token": [("preference", 2), ("nll", 3)], "sum": [("preference", 2), ("nll", 2)]}


def test_equally_likely_answers_give_ln_2_plus_the_nll():
    streams = Streams(torch.tensor([0, 1]), 2, torch.tensor([-0.7, -0.7], dtype=torch.float64))
    assert CPO()(streams).loss().item() == pytest.approx(math.log(2) + 0.7, abs=1e-15)


def test_without_the_nll_it_is_reference_free_dpo():
    assert CPO(0.3, nll_weight=0.0)(pairs()).loss() == ReferenceFreeDPO(0.3)(pairs()).loss()


def test_presets_name_the_two_normalisations():
    assert CPO(**PRESETS["paper"]).nll_normalisation == "sum"
    assert CPO(**PRESETS["trl"]).nll_normalisation == "token"


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("nll_weight", -1.0), ("nll_normalisation", "mean")])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"preference\.{field}: "):
        check_settings(CPO(**{field: value}), "preference")
