"""The streams an objective asks for: the policy's pass with gradients, the reference's without, cached by row."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from trimpot.core.tensors import Batch, Objective, Streams
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel

Trainee = Policy | RewardModel
Reference = Callable[[Batch], Tensor]


def reference_of(policy: Policy, cache: bool, temperature: float = 1.0) -> Reference:
    """The reference's log-probs of a batch, [N]: the adapters switched off under LoRA, else a frozen copy.

    With ``cache`` (rows that come back every epoch, never rollouts) a row's log-probs are computed once.
    """
    frozen = None if policy.adapters is not None else frozen_copy(policy)
    known: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def score(batch: Batch) -> Tensor:
        if cache and all(row in known for row in batch.row_ids):
            return torch.cat([part for row in batch.row_ids for part in known[row]])
        if frozen is None:
            with policy.adapters_off():
                logprob_N = policy.scores(batch, temperature).logprob_N
        else:
            logprob_N = frozen.scores(batch, temperature).logprob_N
        if cache:
            parts = logprob_N.split(torch.bincount(batch.sequence_N, minlength=batch.sequences).tolist())
            start = 0
            for row, branches in zip(batch.row_ids, batch.branches_per_row, strict=True):
                known[row] = list(parts[start : start + branches])
                start += branches
        return logprob_N

    return score


def frozen_copy(policy: Policy) -> Policy:
    """The policy as it is now, without gradients."""
    model = copy.deepcopy(policy.model).requires_grad_(False)
    return Policy(model, policy.tokenizer, policy.name)


def fixed_streams(batch: Batch) -> Streams:
    """The streams that do not depend on the model; log-probs and rewards are zeros (for counting)."""
    zeros_N = torch.zeros(len(batch.target_ids_N), device=batch.ids_T.device)
    return Streams(
        sequence_N=batch.sequence_N,
        sequences=batch.sequences,
        logprob_N=zeros_N,
        reference_logprob_N=zeros_N,
        reward_S=torch.zeros(batch.sequences, device=batch.ids_T.device),
        **{"sampler_logprob_N": zeros_N, **batch.streams},
    )


def compute_streams(
    trainee: Trainee, batch: Batch, objective: Objective, reference: Reference | None, temperature: float
) -> Streams:
    """Runs the passes the objective needs: the trainee's with gradients, the reference's without."""
    if isinstance(trainee, RewardModel):
        return Streams(batch.sequence_N, batch.sequences, reward_S=trainee.rewards(batch), **batch.streams)
    scores = trainee.scores(batch, temperature)
    needs_reference = reference is not None and "reference_logprob_N" in objective.needs
    return Streams(
        sequence_N=batch.sequence_N,
        sequences=batch.sequences,
        logprob_N=scores.logprob_N,
        entropy_N=scores.entropy_N,
        correct_N=scores.correct_N,
        reference_logprob_N=reference(batch) if reference is not None and needs_reference else None,
        **batch.streams,
    )
