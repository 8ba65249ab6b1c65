import math

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.settings import check_settings
from trimpot.core.tensors import Objective, Streams
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.dpo_sft import PRESETS, DPOWithSFT

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


DPO_LOSS = (-math.log(sigmoid(1.5)) - math.log(sigmoid(0.5))) / 2


def test_loss_by_hand():
    # NLL of the chosen answers: (1 + 2) / 2 and 1 / 1 per answer, or 1 + 2 + 1 over 3 tokens
    by_sequence, by_token = (1.5 + 1) / 2, 4 / 3
    paper = DPOWithSFT(0.5, 0.3, "sequence")(pairs())
    trl = DPOWithSFT(0.5, 0.3, "token")(pairs())
    assert paper.loss().item() == pytest.approx(DPO_LOSS + 0.3 * by_sequence, abs=1e-15)
    assert trl.loss().item() == pytest.approx(DPO_LOSS + 0.3 * by_token, abs=1e-15)
    assert paper.stats["nll_loss"].value == pytest.approx(by_sequence)
    assert trl.stats["nll_loss"].value == pytest.approx(by_token)


def test_counts_are_pairs_and_answers_or_tokens():
    counts = {n: [(t.name, t.count) for t in DPOWithSFT(0.5, 1.0, n)(pairs()).terms] for n in ("sequence", "token")}
    assert counts == {"sequence": [("preference", 2), ("nll", 2)], "token": [("preference", 2), ("nll", 3)]}


def test_gradient_by_hand():
    first, second = (0.5 * sigmoid(-m) / 2 for m in (1.5, 0.5))
    # The NLL adds −α / length / answers, or −α / tokens, to tokens of chosen answers.
    dpo = [-first, -first, first, -second, second, second]
    by_sequence = [-0.3 / 4, -0.3 / 4, 0, -0.3 / 2, 0, 0]
    by_token = [-0.1, -0.1, 0, -0.1, 0, 0]
    for normalisation, nll in (("sequence", by_sequence), ("token", by_token)):
        expected = [a + b for a, b in zip(dpo, nll, strict=True)]
        assert gradient(DPOWithSFT(0.5, 0.3, normalisation)) == pytest.approx(expected, abs=1e-15)


def test_policy_equal_to_reference_gives_ln_2_plus_the_nll():
    # Reference: chosen −2, −3 and −2.
    loss = DPOWithSFT()(pairs(REFERENCE_N)).loss().item()
    assert loss == pytest.approx(math.log(2) + (2.5 + 2) / 2, abs=1e-15)


def test_without_weight_it_is_dpo():
    assert DPOWithSFT(0.3, nll_weight=0.0)(pairs()).loss() == DPO(0.3)(pairs()).loss()


def test_presets_name_the_two_normalisations():
    assert DPOWithSFT(**PRESETS["paper"]).nll_normalisation == "sequence"
    assert DPOWithSFT(**PRESETS["trl"]).nll_normalisation == "token"


def test_bug_9_the_term_pushes_a_falling_chosen_answer_up():
    """With a saturated margin DPO leaves the chosen answer alone; the NLL still raises it."""
    assert abs(gradient(DPO(beta=20.0))[0]) < 1e-12
    assert gradient(DPOWithSFT(beta=20.0))[0] == pytest.approx(-1 / 4)


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("nll_weight", -1.0), ("nll_normalisation", "sum")])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"preference\.{field}: "):
        check_settings(DPOWithSFT(**{field: value}), "preference")
