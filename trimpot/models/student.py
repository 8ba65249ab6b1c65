"""A student that learns from a teacher's whole distribution at every target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.tensors import Batch, Wanted
from trimpot.models.attention import plan_for
from trimpot.models.compatible import refuse_other_tokens, refuse_virtual_tokens
from trimpot.models.divergence import Divergence, chunked_divergence
from trimpot.models.head import target_scores
from trimpot.models.policy import Policy, sliding_window


@dataclass
class Student:
    """A policy with its frozen teacher. Both read the same ids, so they must have one vocabulary and template.

    ``divergence`` maps logits of student and teacher, each [N, V], to [N] (the objective's own equation).

    Raises:
        UsageError: as ``refuse_teacher``, or the student has virtual tokens.
    """

    policy: Policy
    teacher: Policy
    divergence: Divergence

    def __post_init__(self) -> None:
        refuse_virtual_tokens("teacher", self.policy)
        refuse_teacher(self.teacher, self.policy)

    @property
    def device(self) -> torch.device:
        return self.policy.device

    def trainable(self) -> dict[str, Tensor]:
        """The student's parameters that train, by name."""
        return self.policy.trainable()

    def streams(self, batch: Batch, wanted: Wanted) -> dict[str, Tensor]:
        """The student's streams, and divergence_N where it is wanted, from one pass of each model.

        ``wanted.temperature`` divides the logits of the log-probs; the divergence has a temperature of its own.
        """
        hidden_NH = _hidden(self.policy, batch)
        weight_VH, bias_V = self.policy.head()
        logprob_N, entropy_N, correct_N = target_scores(
            hidden_NH, weight_VH, bias_V, batch.target_ids_N, wanted.temperature
        )
        made = {"logprob_N": logprob_N, "entropy_N": entropy_N, "correct_N": correct_N}
        if "divergence_N" in wanted.needs:
            with torch.no_grad():
                teacher_NH = _hidden(self.teacher, batch)
            made["divergence_N"] = chunked_divergence(
                hidden_NH, (weight_VH, bias_V), teacher_NH, self.teacher.head(), self.divergence
            )
        return made

    def models(self) -> dict[str, Policy]:
        """What a training stage writes, by folder."""
        return self.policy.models()


def refuse_teacher(teacher: Policy, student: Policy) -> None:
    """Raises UsageError unless a student can learn from this teacher's distributions.

    Raises:
        UsageError: it has another vocabulary or chat template, another number of outputs, or virtual tokens.
    """
    refuse_virtual_tokens("student", teacher)
    refuse_other_tokens("teacher", teacher.tokenizer, student, called="the student")
    theirs, own = (len(model.head()[0]) for model in (teacher, student))
    if theirs != own:
        problem = f"gives {theirs} logits, the student {own}: one of them has rows for tokens that are not there"
        raise UsageError("teacher", problem, "Resize the embeddings of one to those of the other.")


def _hidden(policy: Policy, batch: Batch) -> Tensor:
    plan = plan_for(batch, sliding_window(policy.model.config))
    return policy.hidden(batch.ids_T, batch.positions_T, plan)[batch.predict_from_N]
