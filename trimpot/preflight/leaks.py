"""Checks of who sees whom in a packed batch: no other row, no later token, no other answer to the same prompt.

Shape suffixes: T packed tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trimpot.core.samples import Branch, Sample
from trimpot.core.seeds import stream
from trimpot.core.tensors import Batch, Document, pack_one
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError
from trimpot.preflight.parts import hidden_states, model_of, readable, tokens_of

ROWS, TOKENS = 3, 192
"""Rows that are packed, and tokens of each at most."""
ALONE = 1e-4
"""What rounding may do to a row's hidden states, relative to their size, when it is packed with others (float32)."""


def gradient_across_rows(built: Built, deadline: Deadline) -> Found:
    """Whether a row's states depend on another row's tokens, by the gradient.

    Equation: ∂(u · h_t) / ∂e_s = 0 for all t in the first branch of the middle row and all s of other rows and other
        branches; e_s is the input embedding of token s, h_t a hidden state, u a fixed random vector. Exactly 0.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): use backprop to chart dependencies.
    """
    model, batch = model_of(built), _batch(built)
    document = batch.documents[len(batch.documents) // 2]
    own = _seen_by_first_branch(document)
    gradient_TH = embedding_gradient(model, batch, lambda hidden_TH: _score(hidden_TH[own[-1][0] : own[-1][1]], built))
    inside_T = torch.zeros(len(gradient_TH), dtype=torch.bool)
    for low, high in own:
        inside_T[low:high] = True
    return _exactly_zero(gradient_TH, inside_T, "other rows")


def future_leak(built: Built, deadline: Deadline) -> Found:
    """Whether a state depends on later tokens, by the gradient.

    Equation: ∂z_t / ∂e_s = 0 for s > t, with z_t = u · h_t at the middle t of every row, and e_s the input embedding of
        token s of the same row. Exactly 0.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): use backprop to chart dependencies.
    """
    model, batch = model_of(built), _batch(built)
    middles = [(one.start + _seen_by_first_branch(one)[-1][1] - 1) // 2 for one in batch.documents]
    gradient_TH = embedding_gradient(model, batch, lambda hidden_TH: _score(hidden_TH[torch.tensor(middles)], built))
    past_T = torch.zeros(len(gradient_TH), dtype=torch.bool)
    for document, middle in zip(batch.documents, middles, strict=True):
        past_T[document.start : middle + 1] = True
    return _exactly_zero(gradient_TH, past_T, "later tokens")


def packed_documents(built: Built, deadline: Deadline) -> Found:
    """Whether a row's states change with the rows it is packed with, by their values.

    The middle row's hidden states are computed between its neighbours, between others of the same length (every token
    exchanged), and alone. The first two must be equal to 10⁻⁶, the third to 10⁻⁴ of their size in float32, which other
    matrix shapes round otherwise.

    Source: ours.
    """
    model, samples = model_of(built), _rows(built)
    middle = len(samples) // 2
    others = [one if place == middle else _exchanged(one, built) for place, one in enumerate(samples)]
    with torch.no_grad():
        between, exchanged = (_states_of(model, rows, middle) for rows in (samples, others))
        by_itself = _states_of(model, [samples[middle]], 0)
    size = float(between.abs().max())
    change = float((between - exchanged).abs().max()) / size
    apart = float((between - by_itself).abs().max()) / size
    exact = model.model.dtype in (torch.float32, torch.float64)
    passed = change <= 1e-6 and (apart <= ALONE or not exact)
    return Found(passed, max(change, apart if exact else 0.0), f"other neighbours {change:.1e}, alone {apart:.1e}")


def embedding_gradient(model: Policy | RewardModel, batch: Batch, score: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of a score of the hidden states [T, H] by the input embeddings: [T, H], on the CPU."""
    seen: list[Tensor] = []

    def follow(module: Any, inputs: Any, output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_(True))
        return seen[-1]

    hook = model.model.get_input_embeddings().register_forward_hook(follow)
    try:
        with torch.enable_grad():
            total = score(hidden_states(model, batch))
            (gradient,) = torch.autograd.grad(total, seen[:1])
    finally:
        hook.remove()
    return gradient.detach().reshape(len(batch.ids_T), -1).float().cpu()


def _exactly_zero(gradient_TH: Tensor, allowed_T: Tensor, what: str) -> Found:
    largest_T = gradient_TH.abs().amax(1)
    outside, inside = largest_T[~allowed_T], largest_T[allowed_T]
    if not len(outside):
        raise NotApplicableError(f"there are no {what}")
    leak = float(outside.nan_to_num(nan=torch.inf).max())
    alive = bool(inside.isfinite().all()) and float(inside.max()) > 0
    text = f"gradient by {what} {leak:.2g}, by its own tokens {float(inside.max()):.2g}"
    return Found(leak == 0 and alive, leak, text)


def _score(hidden: Tensor, built: Built) -> Tensor:
    """u · h summed over the given states; u is drawn from a stream of its own."""
    draw = stream(built.seed, "preflight", "direction")
    direction_H = torch.tensor([draw.gauss(0, 1) for _ in range(hidden.shape[-1])])
    return (hidden.float() * direction_H.to(hidden.device)).sum()


def _rows(built: Built) -> list[Sample]:
    """The shortest rows, cut: what leaks does so in the first tokens as well."""
    found = [_cut(sample) for sample in readable(built, ROWS)]
    if len(found) < 2:
        raise NotApplicableError("there is one row alone")
    assert tokens_of(found) <= ROWS * TOKENS * 4
    return found


def _batch(built: Built) -> Batch:
    return pack_one(_rows(built), str(model_of(built).device))


def _cut(sample: Sample) -> Sample:
    """A sample of at most TOKENS tokens in its prefix and in each branch, without targets: they play no part here."""
    branches = tuple(Branch(one.ids[:TOKENS], (False,) * len(one.ids[:TOKENS])) for one in sample.branches)
    return Sample(sample.row_id, sample.prefix[:TOKENS], branches)


def _exchanged(sample: Sample, built: Built) -> Sample:
    """The sample with every token but virtual ones replaced by another."""
    embedding = model_of(built).model.get_input_embeddings()
    words, lead = embedding.num_embeddings, len(built.template.lead)

    def other(ids: tuple[int, ...], kept: int) -> tuple[int, ...]:
        return ids[:kept] + tuple((token + 1) % words for token in ids[kept:])

    in_prefix = min(lead, len(sample.prefix))
    branches = tuple(Branch(other(one.ids, 0 if sample.prefix else lead), one.supervised) for one in sample.branches)
    return Sample(sample.row_id, other(sample.prefix, in_prefix), branches)


def _states_of(model: Policy | RewardModel, samples: list[Sample], row: int) -> Tensor:
    batch = pack_one(samples, str(model.device))
    document = batch.documents[row]
    return hidden_states(model, batch)[document.start : document.stop].float()


def _seen_by_first_branch(document: Document) -> list[tuple[int, int]]:
    """The spans that a document's first branch sees, its own last; the prefix alone where there is no branch."""
    prefix = (document.start, document.prefix_stop)
    if not document.branches:
        return [prefix]
    return [prefix, document.branches[0]] if prefix[1] > prefix[0] else [document.branches[0]]


CHECKS = (
    Check(
        "gradient_across_rows",
        "Does a row's output depend on another row?",
        "gradient exactly 0",
        30,
        "Look for what mixes rows: a reshape, a mean or a norm over the batch, an attention mask without rows.",
        gradient_across_rows,
        of_model=True,
    ),
    Check(
        "future_leak",
        "Does an output depend on later tokens?",
        "gradient exactly 0",
        30,
        "Look at the attention mask: it must be causal, and targets must not be shifted into the input.",
        future_leak,
        of_model=True,
    ),
    Check(
        "packed_documents",
        "Do packed rows leave each other alone?",
        "other neighbours 1e-6, alone 1e-4 (float32)",
        30,
        "Look at the attention mask and the positions of packed rows: each must begin anew.",
        packed_documents,
        of_model=True,
    ),
)
