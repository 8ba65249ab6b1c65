"""Two models' answers to the same items, put side by side. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.store.outcomes import UNPERTURBED, Outcome

_CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_PLAIN_TURN = re.compile(r"^(system|user|assistant|tool): ", re.MULTILINE)


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to one prompt, ``a`` of the model before and ``b`` of the new one.

    ``prompt`` is the text that the model read; ``cluster`` names items that are not independent; ``sample`` numbers the
    draws of an item.
    """

    task: str
    item: str
    prompt: str
    a: str
    b: str
    cluster: str = ""
    slices: Mapping[str, str] = field(default_factory=dict)
    perturbation: str = UNPERTURBED
    sample: int = 0

    @property
    def unit(self) -> str:
        """What is independent of other units: the cluster, or the item where there is none."""
        return self.cluster or self.item


@dataclass(frozen=True)
class Paired:
    """Pairs, and the outcomes of either side that have none on the other; ``empty``: neither side has an answer."""

    pairs: tuple[AnswerPair, ...]
    only_a: int
    only_b: int
    empty: int


def pair_outcomes(a: Sequence[Outcome], b: Sequence[Outcome], names: tuple[str, str] = ("A", "B")) -> Paired:
    """Pairs two models' outcomes by task, item, perturbation and sample, in the order of ``a``.

    Answers without text on both sides (multiple choice by likelihood keeps the choice; perplexity has none) say
    nothing to a judge: they are counted in ``empty`` and left out.

    Raises:
        UsageError: one side has two outcomes under one key, or the sides share no item.
    """
    first, second = _by_key(a, names[0]), _by_key(b, names[1])
    shared = [key for key in first if key in second]
    if not shared:
        problem = f"shares no item with {names[0]} ({len(first)} and {len(second)} outcomes)"
        raise UsageError(names[1], problem, "Evaluate both models on the same tasks.")
    pairs = [_pair(first[key], second[key]) for key in shared]
    kept = tuple(pair for pair in pairs if pair.a.strip() or pair.b.strip())
    return Paired(kept, len(first) - len(shared), len(second) - len(shared), len(pairs) - len(kept))


def conversation_of(rendered: str) -> tuple[Message, ...]:
    """The turns of a prompt that a chat template rendered, without its control tokens.

    Knows ChatML (``<|im_start|>role … <|im_end|>``: SmolLM2, Qwen) and the plain form ``role: …``, as trimpot writes
    them; any other text is one user turn. System turns are kept.
    Example: "<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n" is one user turn, "Hi".
    """
    turns = _CHATML.findall(rendered)
    if turns:
        return tuple(Message(role, content.strip()) for role, content in turns)
    starts = list(_PLAIN_TURN.finditer(rendered))
    if starts and starts[0].start() == 0 and rendered.rstrip().endswith("assistant:"):
        ends = [match.start() for match in starts[1:]] + [rendered.rstrip().rindex("assistant:")]
        turns = [(m.group(1), rendered[m.end() : end].strip()) for m, end in zip(starts, ends, strict=True)]
        return tuple(Message(role, content) for role, content in turns if content)
    return (Message("user", rendered),)


def question_text(rendered: str) -> str:
    """A prompt as a judge is shown it: the user's text, or all turns with their roles where there are several."""
    turns = [turn for turn in conversation_of(rendered) if turn.role != "system"]
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def _by_key(outcomes: Iterable[Outcome], name: str) -> dict[tuple[str, str, str, int], Outcome]:
    found: dict[tuple[str, str, str, int], Outcome] = {}
    for one in outcomes:
        key = (one.task, one.item, one.perturbation, one.sample)
        if key in found:
            problem = f"has two outcomes of task {one.task}, item {one.item}, sample {one.sample}"
            raise UsageError(name, problem, "Give the outcomes of one model and one run.")
        found[key] = one
    return found


def _pair(a: Outcome, b: Outcome) -> AnswerPair:
    return AnswerPair(
        task=a.task,
        item=a.item,
        prompt=a.prompt,
        a=a.output,
        b=b.output,
        cluster=a.cluster,
        slices=dict(a.slices),
        perturbation=a.perturbation,
        sample=a.sample,
    )
