"""Tasks: items to ask a model, how they are asked and how answers are scored. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trimpot.core.hashing import content_hash
from trimpot.evaluation.language_model import Prompt
from trimpot.store.outcomes import UNPERTURBED

Kind = Literal["choice", "generate", "rolling"]
"""choice: the likeliest of the item's choices; generate: a completion that a scorer reads; rolling: bits per byte."""


@dataclass(frozen=True)
class Scored:
    """An answer's score.

    ``status``: ok, parse_failed (no answer found: ``score`` is 0), error (the scorer failed: None) or unscored (nothing
    to score by, or the scorer cannot tell: None). ``note`` says why, for people.
    """

    score: float | None
    status: str = "ok"
    note: str = ""


def prompt_value(prompt: Prompt) -> Any:
    """A prompt as a JSON-able value: a string, or a list of turns."""
    return prompt if isinstance(prompt, str) else [message.as_dict() for message in prompt]


@dataclass(frozen=True)
class Item:
    """One thing to ask.

    Args:
        prompt: what the model reads; of a rolling item the text itself.
        choices: of a choice item, each with the space that parts it from the prompt.
        answer: the right choice's text, or what the scorer compares with; empty where a scorer needs none.
        cluster: items that are not independent share it (a document, a template); empty: the item alone.
        slices: name -> value.
        metadata: what the scorer needs beside the answer.
        perturbation: how the item was changed; "none" as it stands.
        parent: the id of the item it was made of; empty: it is itself the original.
    """

    prompt: Prompt
    choices: tuple[str, ...] = ()
    answer: str = ""
    cluster: str = ""
    slices: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    perturbation: str = UNPERTURBED
    parent: str = ""

    @property
    def id(self) -> str:
        """A hash of what is asked and what is right."""
        return content_hash(["item", prompt_value(self.prompt), list(self.choices), self.answer])

    @property
    def original(self) -> str:
        """The id under which outcomes of the item and of its perturbed forms meet."""
        return self.parent or self.id


Scorer = Callable[[str, Item], Scored]
"""The output and its item -> score. Higher is better, in [0, 1] unless the task says otherwise."""


@dataclass(frozen=True)
class Decoding:
    """How answers of a ``generate`` task are drawn. ``samples`` above 1 need a temperature above 0.

    ``score_unfinished``: an answer cut at ``max_tokens`` is scored as it stands (a text to be judged by its words), and
    is not a parse failure.
    """

    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    samples: int = 1
    score_unfinished: bool = False


@dataclass(frozen=True)
class Task:
    """Items of one kind under one name.

    Args:
        name: stands in the outcomes, as in ``core/boolean``.
        metric_group: which HELM column the scores are: accuracy, bias, toxicity …; see ``trimpot.evaluation.helm``.
        scorer: name in ``trimpot.evaluation.scorers.SCORERS``, or ``file.py:function``; of a choice task ``acc``,
            ``acc_norm`` (log-prob by character) or ``acc_bytes``; of a rolling one ``bits_per_byte``.
        version: raised when the items or the scoring change; part of the cache's key.
    """

    name: str
    kind: Kind
    items: tuple[Item, ...]
    scorer: str
    decoding: Decoding = Decoding()
    metric_group: str = "accuracy"
    version: str = "1"
