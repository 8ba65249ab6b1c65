"""The KL divergence to the reference: estimates from sampled tokens, as a loss term and as a controlled penalty.

Shape suffix: N sampled tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trimpot.core.settings import setting
from trimpot.core.stats import Stat
from trimpot.core.tensors import Streams, Term, stat
from trimpot.objectives.policy_gradient.rollouts import Rollouts
from trimpot.objectives.policy_gradient.surrogate import Normaliser, limited_exp
from trimpot.objectives.require import optional, require

KL_ESTIMATORS = ("k1", "k2", "k3")
CONTROL_GAIN = 0.1
"""K_β of arXiv 1909.08593 sec. 2.2."""
CONTROL_LIMIT = 0.2
"""Largest relative error that the controller sees, arXiv 1909.08593 sec. 2.2."""


def kl_setting(default: float, doc: str, origin: str) -> Any:
    """The field ``kl``."""
    return setting(default, doc, origin, at_least=0.0)


def kl_estimator_setting(default: str, origin: str) -> Any:
    """The field ``kl_estimator``."""
    return setting(
        default,
        "estimate of the KL from the sampled tokens; in a loss k1 has no pull on average",
        origin,
        choices=KL_ESTIMATORS,
    )


def kl_estimate(logprob_N: Tensor, reference_logprob_N: Tensor, estimator: str) -> Tensor:
    """An estimate of KL(π‖π_ref) from each sampled token.

    Equation: with d = log π(yₙ) − log π_ref(yₙ): k1 = d; k2 = d²/2; k3 = exp(−d) + d − 1.
        Over yₙ ~ π, k1 and k3 have the KL as expectation, k2 is biased (nearly right where π is close to π_ref).
        As a loss, on tokens held fixed, it is the other way round: ∇k1 = ∇log π has expectation 0, so it pulls
        nowhere; ∇k2 = d ∇log π has exactly the gradient of KL(π‖π_ref) as expectation; ∇k3 = (1 − exp(−d)) ∇log π
        has that of KL(π_ref‖π). All of this on-policy; off-policy none of the three holds.

    Shapes: all [N].
    Units: nats per token.
    Edge cases: no token: an empty tensor. In k3, −d is cut off at +20 inside exp.
    Source: values: joschu.net/blog/kl-approx.html; gradients: ours, by enumeration in tests/objectives/test_kl.py.

    Example: log π = 0, log π_ref = −1, so d = 1; exp(−1) + 1 − 1 = 0.3679:

        >>> logprob_N, reference_logprob_N = torch.tensor([0.0]), torch.tensor([-1.0])
        >>> [round(kl_estimate(logprob_N, reference_logprob_N, name).item(), 4) for name in KL_ESTIMATORS]
        [1.0, 0.5, 0.3679]
    """
    difference_N = logprob_N - reference_logprob_N
    if estimator == "k1":
        return difference_N
    if estimator == "k2":
        return difference_N.square() / 2
    return limited_exp(-difference_N) + difference_N - 1


def kl_term(
    streams: Streams, objective: str, weight: float, estimator: str, over: Normaliser
) -> tuple[Term, dict[str, Stat]]:
    """The KL as a summand of the loss, normalised as the policy's part, and its token mean as ``kl``."""
    logprob_N, reference_logprob_N = require(streams, objective, "logprob_N", "reference_logprob_N")
    kl_N = kl_estimate(logprob_N, reference_logprob_N, estimator)
    return Term("kl", weight, over.total(kl_N), over.count), {"kl": stat(kl_N)}


def kl_statistic(streams: Streams, objective: str, estimator: str) -> dict[str, Stat]:
    """The token mean as ``kl``, where the KL is in the reward and the batch brings the reference's log-probs along."""
    reference_logprob_N = optional(streams, objective, "reference_logprob_N")
    if reference_logprob_N is None:
        return {}
    (logprob_N,) = require(streams, objective, "logprob_N")
    return {"kl": stat(kl_estimate(logprob_N.detach(), reference_logprob_N, estimator))}


def kl_penalty(rollouts: Rollouts, coefficient: float, estimator: str) -> Tensor:
    """What each token's reward is lowered by: coefficient · KL estimate. [N], float64.

    π is the trainer's before the update where it was computed, else the sampler's. Coefficient 0: zeros, and no
    reference is read.

    Raises: ValueError when the coefficient is above 0 and the rollouts have no reference.
    """
    policy_N = rollouts.sampler_logprob_N if rollouts.old_logprob_N is None else rollouts.old_logprob_N
    if coefficient == 0:
        return torch.zeros_like(policy_N, dtype=torch.float64)
    if rollouts.reference_logprob_N is None:
        raise ValueError("a KL penalty needs the rollouts' reference_logprob_N")
    return coefficient * kl_estimate(policy_N.double(), rollouts.reference_logprob_N.double(), estimator)


def adapted_coefficient(coefficient: float, kl: float, target: float) -> float:
    """The KL coefficient of the next step, so that the KL goes to its target.

    Equation: k · (1 + 0.1 · clip(KL / target − 1, −0.2, 0.2)).

    Units: ``kl`` and ``target`` in nats per token (the paper's are per completion: divide by its length).
    Source: arXiv 1909.08593 sec. 2.2 (e_t and β_{t+1}).

    Example: a KL of twice the target: the error 1 is cut to 0.2, and 0.05 · (1 + 0.1 · 0.2) = 0.051:

        >>> round(adapted_coefficient(0.05, kl=0.2, target=0.1), 6)
        0.051
    """
    error = min(max(kl / target - 1, -CONTROL_LIMIT), CONTROL_LIMIT)
    return coefficient * (1 + CONTROL_GAIN * error)
