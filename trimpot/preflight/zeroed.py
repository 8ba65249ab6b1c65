"""Checks that the input has a part in what is learned: a model that sees no prompts must do worse.

Shape suffixes: N targets, S sequences, T packed tokens, H hidden, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trimpot.core.samples import Sample
from trimpot.core.tensors import Batch, Wanted, pack
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError
from trimpot.preflight.guard import as_it_was
from trimpot.preflight.loss import row_losses
from trimpot.preflight.parts import alone, policy_of, spread
from trimpot.preflight.short_runs import refuse_sampled, short_rate, short_run
from trimpot.training.streams import Trainee

ROWS, TOKENS = 8, 200
"""Rows that are compared, and tokens of them in all."""
STANDARD_ERRORS = 3.0
FEWEST = 4
"""Rows that a standard error needs."""
STEPS = 120
"""Steps that random weights learn for, with prompts and without."""


@dataclass(frozen=True)
class PromptsZeroed:
    """A trainee whose passes see zeros in place of the embeddings of all tokens that are no targets.

    Edge cases: a text of which all but the first token are targets has no prompt: all its embeddings are 0.
    """

    trainee: Trainee
    lead: int = 0

    @property
    def device(self) -> torch.device:
        return self.trainee.device

    def trainable(self) -> dict[str, Tensor]:
        """The trainee's."""
        return self.trainee.trainable()

    def models(self) -> Mapping[str, Policy | RewardModel]:
        """The trainee's."""
        return self.trainee.models()

    def streams(self, batch: Batch, wanted: Wanted) -> Mapping[str, Tensor]:
        """The trainee's streams without prompts."""
        kept_T = self._kept(batch)

        def zero(module: Any, inputs: Any, output: Tensor) -> Tensor:
            return output * kept_T.to(output.device, output.dtype).view(*output.shape[:-1], 1)

        hook = self.models()["model"].model.get_input_embeddings().register_forward_hook(zero)
        try:
            return self.trainee.streams(batch, wanted)
        finally:
            hook.remove()

    def _kept(self, batch: Batch) -> Tensor:
        """[T]: 1 where an embedding stays."""
        kept_T = torch.zeros(len(batch.ids_T))
        kept_T[target_places(batch).cpu()] = 1.0
        for document in batch.documents:
            part = slice(document.start, document.stop)
            if float((1 - kept_T[part]).sum()) <= self.lead + 1:
                kept_T[part] = 0.0
        return kept_T


def target_places(batch: Batch) -> Tensor:
    """Where the target tokens lie in a packed batch, [N].

    A target stands behind the token it is predicted from, but for the first of a branch that follows another branch.
    """
    starts_S = batch.predict_from_N.new_tensor([low for one in batch.documents for low, _ in one.branches])
    ends = batch.predict_from_N.new_tensor(
        [one.prefix_stop - 1 for one in batch.documents if one.prefix_stop > one.start]
    )
    first_N = torch.isin(batch.predict_from_N, ends)
    return torch.where(first_N, starts_S[batch.sequence_N], batch.predict_from_N + 1)


def zeroed_input(built: Built, deadline: Deadline) -> Found:
    """Whether a pretrained model predicts answers better with their prompts than with prompts whose embeddings are 0.

    Equation: d = mean over rows of (L₀ − L), L the row's mean −log p of its targets and L₀ the same where the input
        embeddings of all that is no target are 0; passes when d > 3 s / √n, s the standard deviation over the n rows.
    Edge cases: plain text has no prompt: all embeddings are 0. Of a pair its chosen answer counts. Random weights know
        nothing of their input: not applicable (``zeroed_input_trained`` trains them first). Fewer than 4 rows: not
        applicable.
    Source: Karpathy, A Recipe for Training Neural Networks (2019): input-independent baseline; without training ours.

    Example: differences 2, 1, 3, 2: mean 2, s = 0.816, s / √4 = 0.408, so that 2 > 1.22.
    """
    policy_of(built)
    assert built.trainee is not None
    if built.scratch:
        raise NotApplicableError("random weights know nothing of their input yet; --thorough trains them first")
    samples = [alone(sample) for sample in spread(built, ROWS, TOKENS)]
    real = row_nlls(built.trainee, samples)
    zeroed = row_nlls(PromptsZeroed(built.trainee, len(built.template.lead)), samples)
    return beats([without - one for one, without in zip(real, zeroed, strict=True)], "nats a token")


def zeroed_input_trained(built: Built, deadline: Deadline) -> Found:
    """The same after a short training with prompts and another without, by the stage's own loss of each row.

    Karpathy's input-independent baseline: what is learned without the input must be worse than what is learned with it.
    Pairs can be told apart by their answers alone, so two rows lend each other theirs: the first's chosen answer must
    win after its own prompt, and lose after the second's.

    Source: Karpathy, A Recipe for Training Neural Networks (2019): input-independent baseline; crossed pairs ours.
    """
    refuse_sampled(built)
    assert built.trainee is not None
    samples, rate = spread(built, ROWS, TOKENS), short_rate(built)
    if built.kind in ("preference", "reward"):
        samples = crossed(samples)
    losses = []
    for trainee in (built.trainee, PromptsZeroed(built.trainee, len(built.template.lead))):
        with as_it_was(built.trainee, weights=True):
            for _ in short_run(built, samples, STEPS, rate, deadline, trainee):
                pass
            losses.append(row_losses(built, samples, trainee))
    real, zeroed = losses
    return beats([without - one for one, without in zip(real, zeroed, strict=True)], "a row")


def crossed(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Pairs of which no answer is better by itself: each row's chosen answer over that of the row beside it.

    Raises:
        NotApplicableError: the rows are no pairs of different answers to different prompts.
    """
    found = []
    for one, other in zip(samples[0::2], samples[1::2], strict=False):
        if len(one.branches) != 2 or one.prefix == other.prefix or one.branches[0].ids == other.branches[0].ids:
            continue
        for row, lent in ((one, other), (other, one)):
            # Streams of a branch (a pair's margin) stay with their place.
            rejected = replace(row.branches[1], ids=lent.branches[0].ids, supervised=lent.branches[0].supervised)
            found.append(replace(row, row_id=f"{row.row_id} crossed", branches=(row.branches[0], rejected)))
    if not found:
        raise NotApplicableError("the rows are no pairs of different answers to different prompts")
    return tuple(found)


def beats(differences: Sequence[float], unit: str) -> Found:
    """Whether the mean of paired differences is above 0 by more than 3 standard errors."""
    count = len(differences)
    if count < FEWEST:
        raise NotApplicableError(f"{count} rows give no standard error; {FEWEST} do")
    mean = math.fsum(differences) / count
    deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / (count - 1))
    error = deviation / math.sqrt(count)
    text = f"real input is better by {mean:.4g} {unit}, standard error {error:.2g}"
    return Found(mean > STANDARD_ERRORS * error, mean, text)


@torch.no_grad()
def row_nlls(trainee: Trainee, samples: Sequence[Sample]) -> list[float]:
    """The mean −log p of every sample's targets, in nats."""
    found: dict[str, float] = {}
    for batch in pack(samples, TOKENS, str(trainee.device)):
        logprob_N = trainee.streams(batch, Wanted(("logprob_N",)))["logprob_N"].double()
        row_S = torch.repeat_interleave(torch.arange(len(batch.row_ids)), torch.tensor(batch.branches_per_row))
        row_N = row_S.to(logprob_N.device)[batch.sequence_N]
        for place, name in enumerate(batch.row_ids):
            found[name] = -float(logprob_N[row_N == place].mean())
    return [found[sample.row_id] for sample in samples]


CHECKS = (
    Check(
        "zeroed_input",
        "Does a pretrained model answer better when it sees the prompts?",
        "by more than 3 standard errors",
        30,
        "Follow one row from file to embedding: the prompt does not reach the model, or says nothing of the answer.",
        zeroed_input,
    ),
    Check(
        "zeroed_input_trained",
        "Does training with prompts beat training without?",
        "by more than 3 standard errors",
        240,
        "Follow one row from file to embedding: the prompt does not reach the model, or says nothing of the answer.",
        zeroed_input_trained,
        trains=True,
        thorough=True,
    ),
)
