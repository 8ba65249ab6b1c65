"""The loss of a policy on packed rows as a surface, all in float64 and twice differentiable.

Shape suffixes: T packed tokens, H hidden, N targets, V vocabulary, S sequences.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear

from trimpot.core.errors import UsageError, nearest
from trimpot.core.samples import Sample
from trimpot.core.tensors import Batch, Objective, Streams, pack
from trimpot.models.attention import plan_for
from trimpot.models.decoder import replaced_forwards
from trimpot.models.fused import FORWARDS
from trimpot.models.policy import Policy, sliding_window
from trimpot.models.quantised import is_quantised
from trimpot.models.trunk import Trunk
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.probes.curvature.surface import Part, Surface, Weights


def surface_of(
    policy: Policy,
    samples: Sequence[Sample],
    part: str | None = None,
    objective: Objective | None = None,
    token_budget: int = 640,
) -> Surface:
    """The loss of ``policy`` on tokenised rows, as a function of the weights that train.

    ``part``: only those whose name begins so or has it between dots (``model.layers.1``, ``layers.1.mlp``), the others
        stay where they are; None: all that train. ``objective``: one that needs log-probs of the policy alone; default:
        SFT, so f is the mean loss of a target token in nats.
    Memory: a copy of all weights in float64, and the graph of one micro-batch of ``token_budget`` tokens.
    The policy itself is not changed, and its passes may run between calls of the surface, but not beside one.

    Raises:
        UsageError: no row has a target; no trainable weight is in ``part``; the model's base is in 4 bits.
    Edge cases: root-mean-square norms of Gemma's kind round to float32 within, so their products have errors of about
        1e-6; all others are in float64 throughout, where transformers itself would round to float32 in them.
    Source: ours. The fused layers and log-probs of trimpot.models have gradients in closed form that cannot be
        differentiated again; here every layer runs by its plain formula.
    """
    if is_quantised(policy.model):
        raise UsageError(policy.name, "has a base in 4 bits, which has no second derivatives", "Use quantise: none.")
    objective = objective or SupervisedFineTuning()
    batches = pack(samples, token_budget, str(policy.device)) if samples else []
    counts: dict[str, float] = {}
    for batch in batches:
        for term in _loss_terms(objective, batch, torch.zeros(len(batch.target_ids_N))):
            counts[term.name] = counts.get(term.name, 0.0) + term.count
    if not any(counts.values()):
        raise UsageError(policy.name, "the rows have no target token", "Give rows with answers, or another mask.")
    chosen = {name: value.detach().double() for name, value in part_of(policy, part).items()}
    scorer = _Scorer(policy)
    # Buffers stay as they are: transformers computes positions' frequencies in float32 whatever the weights are.
    fixed = {
        name: value.detach().double()
        for name, value in scorer.named_parameters()
        if name.removeprefix("model.") not in chosen
    }
    return Surface(tuple(_part(scorer, fixed, objective, one, counts) for one in batches), chosen)


def part_of(policy: Policy, part: str | None) -> dict[str, Tensor]:
    """The trainable weights whose name begins with ``part`` or has it between dots; None: all of them.

    Raises:
        UsageError: there is none; names the nearest.
    """
    trainable = policy.trainable()
    if part is None:
        return dict(trainable)
    wanted = f".{part.strip('.')}."
    chosen = {name: value for name, value in trainable.items() if wanted in f".{name}."}
    if not chosen:
        raise UsageError(f"part {part!r}", "is in no trainable weight", nearest(part, trainable))
    return chosen


class _Scorer(nn.Module):
    """Wraps a policy, so that ``functional_call`` can run it on other weights."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.model = policy.model
        self._policy = policy
        self._window = sliding_window(policy.model.config)

    def forward(self, batch: Batch) -> Tensor:
        """The log-prob of every target, [N]."""
        hidden_TH = self._policy.hidden(batch.ids_T, batch.positions_T, plan_for(batch, self._window))
        weight_VH, bias_V = self._policy.head()
        logits_NV = linear(hidden_TH[batch.predict_from_N], weight_VH, bias_V)
        return logits_NV.log_softmax(-1).gather(1, batch.target_ids_N[:, None])[:, 0]

    @contextlib.contextmanager
    def plain(self) -> Iterator[None]:
        """Within it layers run by formulas that can be differentiated twice, in the width of their input."""
        trunk, self._policy.trunk = self._policy.trunk, Trunk()
        try:
            with plain_layers(self.model):
                yield
        finally:
            self._policy.trunk = trunk


@contextlib.contextmanager
def plain_layers(model: nn.Module) -> Iterator[None]:
    """Within it the fused layers of a model, and norms that round to float32, run by their plain formulas."""
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for module in model.modules():
        name = type(module).__name__
        if name.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            forwards[module] = types.MethodType(_norm, module)
        elif name in FORWARDS:
            forwards[module] = types.MethodType(type(module).forward, module)
    with replaced_forwards(forwards):
        yield


def _norm(self: Any, hidden_states: Tensor) -> Tensor:
    square = hidden_states.square().mean(-1, keepdim=True)
    normed: Tensor = self.weight * (hidden_states * torch.rsqrt(square + self.variance_epsilon))
    return normed


def _part(scorer: _Scorer, fixed: Weights, objective: Objective, batch: Batch, counts: dict[str, float]) -> Part:
    def part(weights: Weights) -> Tensor:
        named = {**fixed, **{f"model.{name}": value for name, value in weights.items()}}
        with scorer.plain():
            logprob_N: Tensor = functional_call(scorer, named, (batch,))
        terms = _loss_terms(objective, batch, logprob_N)
        return torch.stack([one.weight * one.total / counts[one.name] for one in terms if counts[one.name]]).sum()

    return part


def _loss_terms(objective: Objective, batch: Batch, logprob_N: Tensor) -> Sequence[Any]:
    streams: dict[str, Any] = {
        name: value.double() if value.is_floating_point() else value for name, value in batch.streams.items()
    }
    return objective(Streams(batch.sequence_N, batch.sequences, logprob_N=logprob_N, **streams)).terms
