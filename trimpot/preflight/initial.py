"""The check of the loss before the first update.

Shape suffixes: N targets, V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from trimpot.core.samples import Sample
from trimpot.core.tensors import pack_one
from trimpot.models.reward import RewardModel
from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError
from trimpot.preflight.parts import flat, model_of, plan_of, policy_of, spread, streams_of
from trimpot.training.streams import fixed_streams

SCRATCH = 0.05
"""How far the loss of random weights may be from ln V, and a pair's from that of equal models."""
ROWS, TOKENS = 8, 200
"""Rows whose loss is measured, and tokens of them in all."""


def initial_loss(built: Built, deadline: Deadline) -> Found:
    """The loss of the weights that the stage begins with, held to what it must be.

    Equation: random weights: |L − ln V| ≤ 0.05 ln V with V the vocabulary. Pretrained weights: L < H, where L is the
        mean of −log p over all tokens but the first of rows, and H = −Σ f log f the entropy of these tokens' own
        frequencies f: what a model pays that knows the frequencies and no context. A reward model, and a policy that
        equals its reference: |L − L₀| ≤ 0.05 L₀ with L₀ the loss when all differences are 0 (DPO, Bradley–Terry: ln 2).
    Units: nats per token, or per pair.
    Edge cases: other policy gradients and distillation: not applicable, their loss says nothing at the start.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): verify loss @ init; the bounds are ours.

    Example: V = 259 and L = 5.6: ln 259 = 5.557, and 0.043 is within 0.278.
    """
    if model_like(built) == "equal":
        return _of_equal_models(built)
    policy = policy_of(built)
    lead = len(built.template.lead)
    texts = [_whole_text(sample, lead) for sample in spread(built, ROWS, TOKENS)]
    batch = pack_one([text for text in texts if text.targets])
    with torch.no_grad():
        loss = -float(policy.scores(batch).logprob_N.double().mean())
    if built.scratch:
        size = len(policy.head()[0])
        bound = math.log(size)
        text = f"{loss:.3f} nats a token, ln {size} = {bound:.3f}"
        return Found(abs(loss - bound) <= SCRATCH * bound, loss, text)
    entropy = unigram_entropy(_tokens(built))
    return Found(loss < entropy, loss, f"{loss:.3f} nats a token, frequencies alone {entropy:.3f}")


def model_like(built: Built) -> str:
    """``equal``: the first loss is known, as the trainee equals its reference or gives every answer 0; else ``policy``.

    Raises:
        NotApplicableError: the first loss says nothing.
    """
    objective = plan_of(built).objective
    if built.kind in ("policy_gradient", "distill"):
        raise NotApplicableError(f"the first loss of {objective.name} says nothing")
    reference = "reference_logprob_N" in objective.needs and plan_of(built).reference is not None
    return "equal" if isinstance(model_of(built), RewardModel) or reference else "policy"


def _of_equal_models(built: Built) -> Found:
    objective = plan_of(built).objective
    batch = pack_one(spread(built, ROWS, TOKENS))
    with torch.no_grad():
        streams = streams_of(built, batch)
        loss = float(objective(streams).loss())
        fixed = replace(fixed_streams(batch), step=streams.step)
        if streams.logprob_N is not None and streams.reference_logprob_N is not None:
            # What else the loss reads (an NLL of the chosen answer) keeps its value.
            fixed = replace(streams, reference_logprob_N=streams.logprob_N)
        meant = float(objective(fixed).loss())
    text = f"{loss:.4f}, with all differences 0 {meant:.4f}"
    return Found(abs(loss - meant) <= SCRATCH * max(abs(meant), 1e-6), loss, text)


def unigram_entropy(tokens: Iterable[int]) -> float:
    """−Σ f log f over the distinct tokens, f their share: nats per token.

    Example: a, a, b, b: ln 2 = 0.693. Edge cases: no tokens: 0.
    """
    counts = Counter(tokens)
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


def _tokens(built: Built) -> Iterator[int]:
    lead = len(built.template.lead)
    for sample in built.samples:
        yield from flat(sample)[0][lead + 1 :]


def _whole_text(sample: Sample, lead: int) -> Sample:
    """The sample's first text with all its tokens but virtual ones and the first as targets."""
    ids, _ = flat(sample)
    targets = (False,) * (lead + 1) + (True,) * (len(ids) - lead - 1)
    branch = replace(sample.branches[0], ids=ids, supervised=targets, streams={})
    return Sample(sample.row_id, (), (branch,))


CHECKS = (
    Check(
        "initial_loss",
        "Is the first loss what these weights must give?",
        "scratch: within 5% of ln V; pretrained: below what token frequencies give; equal models: within 5%",
        30,
        "Look for other weights, another tokenizer or another reference than meant, or a wrong initial scale.",
        initial_loss,
    ),
)
