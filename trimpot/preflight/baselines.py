"""The check against baselines that read no prompt: what a short run learns must be more than they know.

Shape suffixes: N targets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from trimpot.core.samples import Sample
from trimpot.core.tensors import Wanted, pack
from trimpot.models.policy import Policy
from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError
from trimpot.preflight.learning import ACCURACIES
from trimpot.preflight.loss import statistics
from trimpot.preflight.parts import flat, model_of
from trimpot.preflight.short_runs import refuse_sampled, short_rate, short_run
from trimpot.preflight.zeroed import beats, row_nlls

STEPS, BATCH = 60, 8
TRAINED, HELD = 256, 64
"""Rows that a short run learns from, and rows that it is measured on, at most."""
FEWEST = 30
CHANCE = 0.05


def baselines(built: Built, deadline: Deadline) -> Found:
    """Trains for 60 steps on four fifths of the rows and measures on the others, against what needs no model.

    Equation: language: H − L > 3 standard errors over the held rows, and A > m, with L a row's mean −log p and A the
        share of targets that are the likeliest token. H, the row's mean −log f(y | i), is the unigram's loss, with
        f(y | i) = (n(y, i) + 1) / (n(i) + w(i) + 1): n(y, i) is how often y is the i-th target of a trained answer,
        n(i) how many answers have an i-th target, w(i) how many different ones there are. m is the share of held
        targets that are the commonest of their place.
        Pairs: k of the n held pairs are told apart, with P(X ≥ k) < 0.05 for X binomial (n, 1/2), and k is no less than
        by the rule "the longer" or "the shorter", whichever is right more often in training.
    Units: nats per token. By place, as an end that always comes third is no knowledge of the prompt.
    Edge cases: fewer than 30 rows: not applicable. Objectives that report no accuracy (KTO): not applicable.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): set up dumb baselines; by place ours.

    Example: first targets a, a, b: f(a | 1) = (2 + 1) / (3 + 2 + 1) = 1/2, so that a costs ln 2 = 0.693 nats there, and
        a token never seen there ln 6 = 1.79.
    """
    refuse_sampled(built)
    rows = [sample for sample in built.samples if sample.targets]
    if len(rows) < FEWEST:
        raise NotApplicableError(f"{len(rows)} rows are too few to hold some out; {FEWEST} do")
    held, trained = tuple(rows[::5][:HELD]), [one for place, one in enumerate(rows) if place % 5][:TRAINED]
    for _ in short_run(built, trained, STEPS, short_rate(built), deadline, batch=min(BATCH, len(trained))):
        pass
    model = model_of(built)
    if built.kind == "sft" and isinstance(model, Policy):
        return _language(model, trained, held)
    return _pairs(built, trained, held)


def _language(model: Policy, trained: Sequence[Sample], held: tuple[Sample, ...]) -> Found:
    losses, accuracy = _measured(model, held)
    unigram, majority = by_place(trained, held)
    found = beats([one - own for own, one in zip(losses, unigram, strict=True)], "nats a token")
    loss, known = (math.fsum(values) / len(held) for values in (losses, unigram))
    text = f"loss {loss:.3f}, unigram {known:.3f}; accuracy {accuracy:.1%}, commonest token {majority:.1%}"
    return replace(found, passed=found.passed and accuracy > majority, text=text)


def by_place(trained: Sequence[Sample], held: Sequence[Sample]) -> tuple[list[float], float]:
    """The loss of the trained answers' frequencies, by place, on each held row, and their accuracy (see baselines)."""
    counts: dict[int, Counter[int]] = {}
    for sample in trained:
        for place, token in _targets(sample):
            counts.setdefault(place, Counter())[token] += 1
    losses, right, total = [], 0, 0
    for sample in held:
        row = []
        for place, token in _targets(sample):
            seen = counts.get(place, Counter())
            row.append(-math.log((seen[token] + 1) / (seen.total() + len(seen) + 1)))
            right += bool(seen) and token == seen.most_common(1)[0][0]
        total += len(row)
        losses.append(math.fsum(row) / len(row))
    return losses, right / total


def _pairs(built: Built, trained: Sequence[Sample], held: tuple[Sample, ...]) -> Found:
    if any(len(sample.branches) != 2 for sample in held):
        raise NotApplicableError("the rows are neither answers nor pairs")
    values = statistics(built, held)
    accuracy = next((values[name] for name in ACCURACIES if values.get(name) is not None), None)
    if accuracy is None:
        raise NotApplicableError("the objective reports no accuracy")
    longer = sum(_longer(sample) > 0 for sample in trained) >= sum(_longer(sample) < 0 for sample in trained)
    by_length = sum((_longer(sample) > 0) if longer else (_longer(sample) < 0) for sample in held) / len(held)
    rule = "the longer" if longer else "the shorter"
    chance = at_least(round(accuracy * len(held)), len(held))
    text = (
        f"tells {accuracy:.1%} of {len(held)} pairs apart (by chance p = {chance:.2g}), the rule {rule} {by_length:.1%}"
    )
    return Found(chance < CHANCE and accuracy >= by_length, accuracy - max(0.5, by_length), text)


def at_least(right: int, of: int) -> float:
    """P(X ≥ right) for a fair coin thrown ``of`` times. Example: 4 of 4: 1/16."""
    return sum(math.comb(of, k) for k in range(right, of + 1)) / 2**of


@torch.no_grad()
def _measured(model: Policy, samples: Sequence[Sample]) -> tuple[list[float], float]:
    """Every row's mean −log p of its targets, and the share of all targets that are the likeliest token."""
    right, count = 0.0, 0
    for batch in pack(samples, 640, str(model.device)):
        right += float(model.streams(batch, Wanted(("logprob_N",)))["correct_N"].double().sum())
        count += len(batch.target_ids_N)
    return row_nlls(model, samples), right / count


def _longer(sample: Sample) -> int:
    """Targets of the chosen answer less those of the rejected one."""
    return sample.branches[0].targets - sample.branches[1].targets


def _targets(sample: Sample) -> list[tuple[int, int]]:
    """The targets of all branches, each with its place among those of its branch."""
    found = []
    for branch in range(len(sample.branches)):
        ids, mask = flat(sample, branch)
        found += list(enumerate(token for token, target in zip(ids, mask, strict=True) if target))
    return found


CHECKS = (
    Check(
        "baselines",
        "Does a short run beat what needs no model?",
        "below the unigram's loss, above the commonest token",
        300,
        "Look whether answers belong to their prompts: shuffled or random answers teach their frequencies alone.",
        baselines,
        trains=True,
        thorough=True,
    ),
)
