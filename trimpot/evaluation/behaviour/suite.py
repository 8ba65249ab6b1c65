"""What a behavioural suite is made of: tests of cases of examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trimpot.core.hashing import content_hash
from trimpot.core.rows import Message
from trimpot.evaluation.behaviour.expectations import Expectation
from trimpot.evaluation.behaviour.parsers import ANSWERS, LETTERS, AnswerKind
from trimpot.evaluation.language_model import Prompt

TestType = Literal["MFT", "INV", "DIR"]
"""Minimum functionality, invariance, directional expectation."""

TYPES: dict[TestType, str] = {
    "MFT": "minimum functionality",
    "INV": "invariance",
    "DIR": "directional expectation",
}

CAPABILITIES = (
    "vocabulary", "taxonomy", "robustness", "NER", "fairness", "temporal", "negation", "coreference", "SRL", "logic",
    "arithmetic",
)  # fmt: skip
"""Those of Ribeiro et al. 2020, and arithmetic."""

ORIGINAL = "original"
By = Literal["generate", "likelihood"]


@dataclass(frozen=True)
class Asking:
    """How the examples of a test are asked.

    Args:
        answer: what is read out of a completion.
        by: completions that are parsed, or the likeliest option by its log-probability.
        instruction: stands below the text; {labels} is the options.
        max_tokens: the longest completion.
        chat: the prompt is a user's turn; else plain text that ends in "Answer:".
    """

    answer: AnswerKind
    by: By = "generate"
    instruction: str = ""
    max_tokens: int = 16
    chat: bool = True

    def prompt(self, text: str, options: tuple[str, ...]) -> Prompt:
        """What the model reads: the text, the choices with their letters, and the instruction."""
        shown = "".join(f"\n{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
        labels = " or ".join([", ".join(options[:-1]), *options[-1:]]) if len(options) > 1 else "".join(options)
        instruction = (self.instruction or ANSWERS[self.answer]).replace("{labels}", labels)
        asked = f"{text}{shown if self.answer == 'choice' else ''}\n{instruction}"
        return (Message("user", asked),) if self.chat else f"{asked}\nAnswer:"

    def continuations(self, options: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """(option, the text whose likelihood is its own): choices by their letter; a space first in plain text."""
        words = LETTERS[: len(options)] if self.answer == "choice" else options
        written = (word[:1].upper() + word[1:] for word in words)
        return tuple((option, word if self.chat else f" {word}") for option, word in zip(options, written, strict=True))


@dataclass(frozen=True)
class Example:
    """One prompt. ``change``: how it was made of the case's first example; ``label``: the right answer, if known."""

    text: str
    label: str | None = None
    options: tuple[str, ...] = ()
    change: str = ORIGINAL


@dataclass(frozen=True)
class Case:
    """Examples that are judged together, the original first. ``template``: which of the test's templates it is of."""

    template: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class BehaviourTest:
    """Cases of one capability and type, with what is expected of their answers."""

    name: str
    capability: str
    type: TestType
    about: str
    asking: Asking
    expect: Expectation
    cases: tuple[Case, ...]

    @property
    def task(self) -> str:
        """The task's name in outcomes."""
        return f"behaviour/{self.capability}/{self.type}/{self.name}"

    def prompt(self, example: Example) -> Prompt:
        return self.asking.prompt(example.text, example.options)

    def item(self, case: Case) -> str:
        """The id of a case: a hash of the test's name, type and capability, and of what is asked, how, and right."""
        asked = [[one.text, one.label, list(one.options)] for one in case.examples]
        how = [self.asking.answer, self.asking.by, self.asking.instruction, self.asking.chat]
        return content_hash([self.task, how, asked])


@dataclass(frozen=True)
class BehaviourSuite:
    """Tests under one name."""

    name: str
    tests: tuple[BehaviourTest, ...]
