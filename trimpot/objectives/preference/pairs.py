"""What the objectives on pairs share: sums over answers, the NLL of the chosen answer, statistics with TRL's names.

Shape suffixes: N targets, S sequences, P = S / 2 pairs; sequences 2i (chosen) and 2i+1 (rejected) are pair i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trimpot.core.stats import Stat
from trimpot.core.tensors import LossOut, Streams, Term, stat
from trimpot.objectives.require import optional, require, require_pairs


def logprob_sums(streams: Streams, objective: str) -> Tensor:
    """[S]: log π(y|x) of each answer, in nats.

    Raises: ValueError when logprob_N is missing or misshapen, or the number of sequences is odd.
    """
    require_pairs(streams, objective)
    (logprob_N,) = require(streams, objective, "logprob_N")
    return streams.sum_by_sequence(logprob_N)


def logratio_sums(streams: Streams, objective: str) -> Tensor:
    """[S]: log π(y|x) / π_ref(y|x) of each answer, in nats.

    Raises: ValueError when a log-prob stream is missing or misshapen, or the number of sequences is odd.
    """
    require_pairs(streams, objective)
    logprob_N, reference_logprob_N = require(streams, objective, "logprob_N", "reference_logprob_N")
    # Token differences first: two long sums of nearly equal numbers would cancel in float32.
    return streams.sum_by_sequence(logprob_N - reference_logprob_N)


def per_token(streams: Streams, values_S: Tensor) -> Tensor:
    """[S]: sums over answers turned into means over their tokens; an answer without targets stays 0."""
    return values_S / streams.lengths_S().clamp(min=1)


def difference(values_S: Tensor) -> Tensor:
    """[P]: chosen minus rejected."""
    return values_S[0::2] - values_S[1::2]


def token_nll(streams: Streams, logprob_N: Tensor) -> tuple[Tensor, float]:
    """Every token of a chosen answer counts once."""
    chosen_N = logprob_N[streams.sequence_N % 2 == 0]
    return -chosen_N.sum(), float(len(chosen_N))


def sequence_nll(streams: Streams, logprob_N: Tensor) -> tuple[Tensor, float]:
    """Every chosen answer counts once, with the mean over its tokens."""
    chosen_P = per_token(streams, streams.sum_by_sequence(logprob_N))[0::2]
    return -chosen_P.sum(), float(len(chosen_P))


def sum_nll(streams: Streams, logprob_N: Tensor) -> tuple[Tensor, float]:
    """Every chosen answer counts once, with the sum over its tokens."""
    chosen_P = streams.sum_by_sequence(logprob_N)[0::2]
    return -chosen_P.sum(), float(len(chosen_P))


CHOSEN_NLL: Mapping[str, Callable[[Streams, Tensor], tuple[Tensor, float]]] = {
    "token": token_nll,
    "sequence": sequence_nll,
    "sum": sum_nll,
}
"""Ways to average −log π(y⁺|x): name in a recipe -> the total and the count it is divided by."""


def pair_statistics(streams: Streams, objective: str, reward_S: Tensor, logprob_S: Tensor) -> dict[str, Stat]:
    """Statistics with TRL's names, and ``length_gap``: targets of the chosen answer minus those of the rejected.

    A tie counts as wrong in ``rewards/accuracies``, as in TRL. ``entropy`` is there where the batch has entropy_N.
    """
    entropy_N = optional(streams, objective, "entropy_N")
    margin_P = difference(reward_S)
    stats = {
        "rewards/chosen": stat(reward_S[0::2]),
        "rewards/rejected": stat(reward_S[1::2]),
        "rewards/margins": stat(margin_P),
        "rewards/accuracies": stat(margin_P > 0),
        "logps/chosen": stat(logprob_S[0::2]),
        "logps/rejected": stat(logprob_S[1::2]),
        "length_gap": stat(difference(streams.lengths_S())),
    }
    return stats if entropy_N is None else {**stats, "entropy": stat(entropy_N)}


def reference_statistics(streams: Streams, objective: str, beta: float, logratio_S: Tensor) -> dict[str, Stat]:
    """``pair_statistics`` with the implicit rewards β log π/π_ref, and ``logratio/*``: log π/π_ref on the data.

    ``logratio/*`` is no KL, as the policy did not sample the data.
    """
    return {
        **pair_statistics(streams, objective, beta * logratio_S, logprob_sums(streams, objective)),
        "logratio/chosen": stat(logratio_S[0::2]),
        "logratio/rejected": stat(logratio_S[1::2]),
    }


def pair_loss(loss_P: Tensor, stats: Mapping[str, Stat]) -> LossOut:
    """The mean over pairs, as the only term."""
    return LossOut((pair_term("preference", 1.0, loss_P),), {"loss": stat(loss_P), **stats})


def pair_loss_with_nll(pair: Term, nll: tuple[Tensor, float], weight: float, stats: Mapping[str, Stat]) -> LossOut:
    """A mean over pairs and ``weight`` times the NLL of the chosen answers, each with its own count.

    No statistic ``loss``: terms with different counts have no common mean over micro-batches; the loop reports the
    loss and each term from the counts of the step.
    """
    total, count = nll
    nll_stat = Stat(float(total.detach()), count)
    return LossOut((pair, Term("nll", weight, total, count)), {"nll_loss": nll_stat, **stats})


def pair_term(name: str, weight: float, loss_P: Tensor) -> Term:
    """A term that is averaged over pairs."""
    return Term(name, weight, loss_P.sum(), float(len(loss_P)))


def log_odds(mean_logprob_S: Tensor) -> Tensor:
    """[S]: log p / (1 − p) with p = exp(``mean_logprob_S``), an answer's geometric mean probability per token.

    A p that float32 cannot tell from 1 is taken as 1 − 2⁻²³, without gradient: the odds of 1 are infinite.
    """
    bounded_S = mean_logprob_S.clamp(max=-torch.finfo(torch.float32).eps)
    return bounded_S - torch.log(-torch.expm1(bounded_S))
