"""How far a policy is from its reference and how good it is: on its own samples, and on preference pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trimpot.core.rows import PromptRow
from trimpot.core.samples import Branch, Sample
from trimpot.core.stats import add_stats
from trimpot.core.tensors import Batch, Streams, pack
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.objectives.preference.dpo import DPO
from trimpot.studies import reversal

TOKENS = 4096
PAIR_METRICS = ("rewards/margins", "rewards/accuracies", "logratio/chosen", "logratio/rejected")


@torch.no_grad()
def on_own_samples(
    policy: Policy, reference: Policy, rows: Sequence[PromptRow], samples: int, seed: int
) -> dict[str, float]:
    """``kl`` to the reference and ``accuracy`` by the verifier, from ``samples`` completions of every row.

    KL(π ‖ π_ref) = E_{y ~ π} Σₜ log π(yₜ)/π_ref(yₜ): the mean over completions of the sum over their tokens.

    Units: nats per completion. An estimate from few samples can be below 0.
    """
    template = ChatTemplate(policy.tokenizer)
    groups, scores = reversal.sampled(policy, rows, samples, seed)
    packed = pack(
        [
            Sample(row.id, template.prompt(row), tuple(Branch(tuple(one.ids), (True,) * len(one.ids)) for one in group))
            for row, group in zip(rows, groups, strict=True)
        ],
        TOKENS,
    )
    total = sum(float((policy.scores(b).logprob_N - reference.scores(b).logprob_N).double().sum()) for b in packed)
    count = len(rows) * samples
    return {"kl": total / count, "accuracy": sum(score for group in scores for score in group) / count}


@torch.no_grad()
def on_pairs(policy: Policy, reference: Policy, samples: Sequence[Sample], objective: DPO) -> dict[str, float]:
    """DPO's statistics of tokenised pairs: reward margin and accuracy, log π/π_ref of both answers in nats.

    Edge cases: no pairs: no metrics.
    """

    def streams(batch: Batch) -> Streams:
        logprob_N, reference_N = policy.scores(batch).logprob_N, reference.scores(batch).logprob_N
        return Streams(batch.sequence_N, batch.sequences, logprob_N, reference_N)

    total = add_stats(objective(streams(batch)).stats for batch in pack(samples, TOKENS))
    return {name: value for name in PAIR_METRICS if name in total and (value := total[name].value) is not None}
