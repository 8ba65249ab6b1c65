"""What all objectives on pairs share: symmetry, order of pairs, micro-batches, and two shipped bugs by name."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trimpot.core.stats import add_stats
from trimpot.core.tensors import LossOut, Streams
from trimpot.objectives.preference.beta_dpo import BetaDPO
from trimpot.objectives.preference.cdpo import ConservativeDPO
from trimpot.objectives.preference.cpo import CPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.dpo_length_normalised import LengthNormalisedDPO
from trimpot.objectives.preference.dpo_reference_free import ReferenceFreeDPO
from trimpot.objectives.preference.dpo_sft import DPOWithSFT
from trimpot.objectives.preference.hinge import HingeDPO
from trimpot.objectives.preference.ipo import IPO
from trimpot.objectives.preference.orpo import ORPO
from trimpot.objectives.preference.robust_dpo import RobustDPO
from trimpot.objectives.preference.simpo import SimPO

# The loss of a pair at policy = reference.
WITH_REFERENCE = {
    DPO(): math.log(2),
    IPO(): 1 / (4 * 0.1**2),
    IPO(normalisation="mean"): 1 / (4 * 0.1**2),
    ConservativeDPO(): math.log(2),
    RobustDPO(): math.log(2),
    HingeDPO(): 1.0,
    LengthNormalisedDPO(): math.log(2),
    BetaDPO(): math.log(2),
    DPOWithSFT(): math.log(2),
    DPOWithSFT(nll_normalisation="token"): math.log(2),
}
WITHOUT_REFERENCE = [
    SimPO(),
    ReferenceFreeDPO(),
    CPO(),
    CPO(nll_normalisation="sum"),
    ORPO(),
    ORPO(nll_normalisation="sequence"),
]
every_objective = pytest.mark.parametrize("objective", [*WITH_REFERENCE, *WITHOUT_REFERENCE], ids=repr)
with_reference = pytest.mark.parametrize(("objective", "known"), WITH_REFERENCE.items(), ids=repr)
LENGTHS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=4)
examples = settings(max_examples=20, deadline=None)


def random_pairs(lengths: list[tuple[int, int]], seed: int) -> Streams:
    flat = torch.tensor([length for pair in lengths for length in pair])
    generator = torch.Generator().manual_seed(seed)
    logprob_N, reference_N, entropy_N = -4 * torch.rand(3, int(flat.sum()), dtype=torch.float64, generator=generator)
    sequence_N = torch.repeat_interleave(torch.arange(len(flat)), flat)
    return Streams(sequence_N, len(flat), logprob_N, reference_N, entropy_N=-entropy_N)


def take(streams: Streams, chosen: list[int]) -> Streams:
    """The batch with these sequences only, in this order."""
    tokens = torch.cat([torch.nonzero(streams.sequence_N == old).flatten() for old in chosen])
    sequence_N = torch.repeat_interleave(torch.arange(len(chosen)), streams.lengths_S()[chosen])
    logprob_N, reference_N = streams.logprob_N[tokens], streams.reference_logprob_N[tokens]
    return Streams(sequence_N, len(chosen), logprob_N, reference_N, entropy_N=streams.entropy_N[tokens])


def step_loss(outs: list[LossOut]) -> Tensor:
    """As the loop computes it: each term's totals over the step, divided by its own counts over the step."""
    terms = [term for out in outs for term in out.terms]
    counts = {name: sum(term.count for term in terms if term.name == name) for name in {term.name for term in terms}}
    return torch.stack([term.weight * term.total / counts[term.name] for term in terms]).sum()


def values(outs: list[LossOut]) -> dict[str, float | None]:
    return {name: stat.value for name, stat in add_stats(out.stats for out in outs).items()}


@every_objective
@examples
@given(LENGTHS, st.integers(0, 2**32))
def test_swapping_chosen_and_rejected_negates_margin_and_length_gap(objective, lengths, seed):
    streams = random_pairs(lengths, seed)
    swapped = take(streams, [2 * pair + side for pair in range(len(lengths)) for side in (1, 0)])
    straight, turned = values([objective(streams)]), values([objective(swapped)])
    for name in ("rewards/margins", "length_gap"):
        assert turned[name] == pytest.approx(-straight[name], abs=1e-12)
    assert turned["rewards/chosen"] == pytest.approx(straight["rewards/rejected"], abs=1e-12)
    assert turned["rewards/accuracies"] == pytest.approx(1 - straight["rewards/accuracies"], abs=1e-12)


@every_objective
@examples
@given(LENGTHS, st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_order_of_pairs_and_micro_batches_change_nothing(objective, lengths, seed, chance):
    streams = random_pairs(lengths, seed)
    leaf = streams.logprob_N.requires_grad_()
    order = list(range(len(lengths)))
    chance.shuffle(order)
    cut = chance.randint(1, len(order) - 1)
    parts = [
        objective(take(streams, [2 * pair + side for pair in group for side in (0, 1)]))
        for group in (order[:cut], order[cut:])
    ]
    whole, split = objective(streams).loss(), step_loss(parts)
    assert split.item() == pytest.approx(whole.item(), rel=1e-12)
    (whole_gradient,) = torch.autograd.grad(whole, leaf)
    (split_gradient,) = torch.autograd.grad(split, leaf)
    assert torch.allclose(split_gradient, whole_gradient, atol=1e-12)
    assert values(parts) == pytest.approx(values([objective(streams)]), abs=1e-10)


@every_objective
def test_gradient_passes_gradcheck(objective):
    streams = random_pairs([(2, 3), (1, 4)], seed=1)
    leaf = streams.logprob_N.clone().requires_grad_()

    def loss(logprob_N: Tensor) -> Tensor:
        return objective(Streams(streams.sequence_N, 4, logprob_N, streams.reference_logprob_N)).loss()

    assert torch.autograd.gradcheck(loss, (leaf,))


@every_objective
def test_only_those_with_a_reference_ask_for_it(objective):
    assert ("reference_logprob_N" in objective.needs) == (objective in WITH_REFERENCE)


@every_objective
def test_an_odd_number_of_sequences_is_refused(objective):
    zeros_N = torch.zeros(3)
    with pytest.raises(ValueError, match=rf"{objective.name} reads pairs of sequences, but the batch has 3"):
        objective(Streams(torch.arange(3), 3, zeros_N, zeros_N))


@every_objective
def test_no_pair_has_no_loss_and_no_statistics(objective):
    streams = random_pairs([(1, 1), (1, 1)], seed=0)
    empty_N = streams.logprob_N[:0]
    out = objective(Streams(streams.sequence_N[:0], 0, empty_N, empty_N))
    assert out.loss().item() == 0.0
    assert all(stat.value is None for stat in out.stats.values())


@with_reference
def test_bug_13_wrong_reference_model_shows_at_step_0(objective, known):
    """At step 0 the policy is the reference: log ratios 0 and the known loss. Another reference gives neither."""
    streams = random_pairs([(2, 3), (1, 4)], seed=0)
    start = objective(Streams(streams.sequence_N, 4, streams.logprob_N, streams.logprob_N))
    wrong = objective(streams)
    assert start.terms[0].total.item() / start.terms[0].count == pytest.approx(known, rel=1e-14)
    for side in ("chosen", "rejected"):
        assert start.stats[f"logratio/{side}"].value == 0.0
        assert abs(wrong.stats[f"logratio/{side}"].value) > 0.1
    assert wrong.terms[0].total.item() / wrong.terms[0].count != pytest.approx(known, rel=1e-3)


@with_reference
def test_bug_9_chosen_log_prob_falls_while_the_margin_grows(objective, known):
    """The margin and the accuracy look like success; logratio/chosen says that the chosen answer became less likely."""
    reference_N = torch.tensor([-2.0, -3.0, -3.0, -2.0], dtype=torch.float64)
    fallen_N = reference_N - torch.tensor([1.0, 1.0, 2.5, 2.5], dtype=torch.float64)
    streams = Streams(torch.tensor([0, 0, 1, 1]), 2, fallen_N, reference_N)
    stats = values([objective(streams)])
    assert stats["rewards/margins"] > 0
    assert stats["rewards/accuracies"] == 1.0
    assert stats["logratio/chosen"] == -2.0
    assert stats["logratio/rejected"] == -5.0
    assert stats["logps/chosen"] == -7.0
