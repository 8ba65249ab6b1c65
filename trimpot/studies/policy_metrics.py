"""How far a policy is from its reference and how good it is: on its own samples, and on preference pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from trimpot.core.rows import PromptRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.stats import add_stats
from trimpot.core.tensors import Batch, Objective, Streams, pack
from trimpot.data.pairs import RIGHT_FROM
from trimpot.models.policy import Policy
from trimpot.rollout.engine import Completion
from trimpot.studies.subject import Subject, template_of

TOKENS = 4096
"""Tokens of one forward pass, prompts counted once for all their completions in it."""
PAIR_METRICS = ("rewards/margins", "rewards/accuracies", "logratio/chosen", "logratio/rejected")


@torch.no_grad()
def on_own_samples(
    policy: Policy, reference: Policy, subject: Subject, rows: Sequence[PromptRow], samples: int, seed: int
) -> dict[str, float]:
    """How ``samples`` completions of every row differ from the reference's, and how good they are.

    ``kl``: KL(π ‖ π_ref) = E_{y ~ π} Σₜ log π(yₜ)/π_ref(yₜ), the mean over completions of the sum over their tokens.
    ``accuracy``: the mean score by the rows' verifiers. ``length``: tokens of a completion, its end counted; of those
    with a score of at least 0.5 ``length/right``, of the others ``length/wrong``.

    Units: nats per completion; tokens. An estimate of KL from few samples can be below 0.
    Edge cases: nothing was scored: no accuracy; no right (wrong) completion: no ``length/right`` (``length/wrong``).
    """
    groups, scores = subject.sampled(policy, rows, samples, seed)
    template = template_of(policy)
    parts = [
        Sample(row.id, prompt, tuple(Branch(tuple(one.ids), (True,) * len(one.ids)) for one in part))
        for row, group in zip(rows, groups, strict=True)
        for prompt in [template.prompt(row)]
        for part in _parts(group, TOKENS - len(prompt))
    ]
    total = 0.0
    for batch in pack(parts, TOKENS, str(policy.device)):
        difference_N = policy.scores(batch).logprob_N - reference.scores(batch).logprob_N
        total += float(difference_N.double().sum())
    flat = [len(one.ids) for group in groups for one in group]
    marks = [score for group in scores for score in group]
    found: dict[str, Sequence[float]] = {
        "accuracy": [mark for mark in marks if math.isfinite(mark)],
        "length": flat,
        "length/wrong": [length for length, mark in zip(flat, marks, strict=True) if mark < RIGHT_FROM],
        "length/right": [length for length, mark in zip(flat, marks, strict=True) if mark >= RIGHT_FROM],
    }
    return {
        "kl": total / len(flat),
        **{name: math.fsum(values) / len(values) for name, values in found.items() if values},
    }


def _parts(group: Sequence[Completion], tokens: int) -> Iterator[list[Completion]]:
    """The completions in parts of at most so many tokens; a longer completion is a part of its own."""
    part: list[Completion] = []
    for one in group:
        if part and sum(len(other.ids) for other in part) + len(one.ids) > tokens:
            yield part
            part = []
        part.append(one)
    if part:
        yield part


@torch.no_grad()
def on_pairs(policy: Policy, reference: Policy, samples: Sequence[Sample], objective: Objective) -> dict[str, float]:
    """DPO's statistics of tokenised pairs: reward margin and accuracy, log π/π_ref of both answers in nats.

    Edge cases: no pairs: no metrics.
    """

    def streams(batch: Batch) -> Streams:
        logprob_N, reference_N = policy.scores(batch).logprob_N, reference.scores(batch).logprob_N
        return Streams(batch.sequence_N, batch.sequences, logprob_N, reference_N)

    batches = pack(samples, TOKENS, str(policy.device)) if samples else []
    total = add_stats(objective(streams(batch)).stats for batch in batches)
    return {name: value for name in PAIR_METRICS if name in total and (value := total[name].value) is not None}
