"""A language model as the judge: by the likelihood of "A" and "B", or by a verdict it writes. No torch here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trimpot.core.errors import UsageError
from trimpot.core.hashing import content_hash
from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import Message
from trimpot.evaluation.judges.judge import Question, Verdict
from trimpot.evaluation.judges.pairs import question_text
from trimpot.evaluation.language_model import LanguageModel, Prompt, Request

Form = Literal["conversation", "text"]
FIELDS = ("question", "first", "second")

_SHOWN = """Here are a question and two answers to it.

[Question]
{question}
[End of question]

[Answer A]
{first}
[End of answer A]

[Answer B]
{second}
[End of answer B]

Which answer is better: correct, helpful, and doing what was asked? Neither its length nor the order in which the \
answers are shown makes an answer better.
"""
LETTER = _SHOWN + "Reply with one letter: A or B."
LETTER_TEXT = _SHOWN + "The better answer is"
MARKED = (
    _SHOWN
    + "Compare them in a few sentences. End with your verdict: [[A]] if answer A is better, [[B]] if answer B is, "
    + "[[C]] for a tie."
)
"""Our own wording of the task of MT-Bench's pairwise prompt, with its marks."""

_MARK = re.compile(r"\[\[([ABC])\]\]")
_SCORES = {"A": 1.0, "B": 0.0, "C": 0.5}
_FIELD = re.compile("{(" + "|".join(FIELDS) + ")}")
_CONTROL = re.compile(r"<(?=\|)|<(?=/?s>)")


@dataclass(frozen=True)
class JudgePrompt:
    """A prompt with the places {question}, {first} and {second}.

    ``form`` conversation: one user turn, which the model's chat template renders; text: read as it is, for a model
    without one. What is shown cannot open or close turns: "<|" becomes "< |", and "<s>" "< s>".

    Raises:
        UsageError: a place is missing.
    """

    text: str = LETTER
    form: Form = "conversation"

    def __post_init__(self) -> None:
        missing = [name for name in FIELDS if "{" + name + "}" not in self.text]
        if missing:
            raise UsageError("judge prompt", f"has no {{{missing[0]}}}", "Write {question}, {first} and {second}.")

    @property
    def hash(self) -> str:
        return content_hash(["judge prompt", self.text, self.form])

    def shown(self, question: Question) -> Prompt:
        """The prompt of a question."""
        values = {"question": question_text(question.pair.prompt), "first": question.first, "second": question.second}
        # One pass, so that braces in an answer stay what they are.
        text = _FIELD.sub(lambda place: _CONTROL.sub("< ", values[place.group(1)].strip()), self.text)
        return text if self.form == "text" else (Message("user", text),)


@dataclass(frozen=True)
class LikelihoodJudge:
    """Prefers the answer whose letter is likelier after the prompt: log p("A" | prompt) against log p("B" | prompt).

    Deterministic, and never without a verdict; equal log-likelihoods are a tie. As one letter is always likelier
    whatever the answers are, only both orders together mean anything.

    Raises:
        UsageError: from ``verdicts``, a pair that is too long for the model.
    Source: ours, of the choice tasks of lm-eval; the bias for letters: arXiv 2309.03882.
    """

    model: LanguageModel
    prompt: JudgePrompt = JudgePrompt()

    @property
    def name(self) -> str:
        return f"{self.model.identity.name} (likelihood of A and B)"

    order_matters = True
    temperature = 0.0
    reads_anything = True

    def verdicts(self, questions: Sequence[Question], draw: int = 0, progress: Progress = ignore) -> list[Verdict]:
        letters = ("A", "B") if self.prompt.form == "conversation" else (" A", " B")
        asked = [(self.prompt.shown(question), letter) for question in questions for letter in letters]
        found = [one.logprob for one in self.model.loglikelihood(asked, progress)]
        margins = [found[2 * i] - found[2 * i + 1] for i in range(len(questions))]
        return [Verdict(0.5 if margin == 0 else float(margin > 0)) for margin in margins]


@dataclass(frozen=True)
class WrittenJudge:
    """Reads the verdict [[A]], [[B]] or [[C]] (tie) that the model writes; the last one counts.

    The last, since a judge that weighs both answers may name a mark before it decides. No mark: parse_failed, which is
    no tie.

    Raises:
        UsageError: from ``verdicts``, a prompt that leaves no room for ``max_tokens``.
    Source: MT-Bench, arXiv 2306.05685, appendix A (which takes the first of A, B and C that occurs).
    """

    model: LanguageModel
    prompt: JudgePrompt = JudgePrompt(MARKED)
    max_tokens: int = 256
    temperature: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.model.identity.name} (written verdict)"

    order_matters = True
    reads_anything = True

    def verdicts(self, questions: Sequence[Question], draw: int = 0, progress: Progress = ignore) -> list[Verdict]:
        requests = [
            Request(self.prompt.shown(question), self.max_tokens, (), self.temperature, draw) for question in questions
        ]
        return [read_verdict(one.text) for one in self.model.generate_until(requests, progress)]


def read_verdict(text: str) -> Verdict:
    """The last of [[A]], [[B]] and [[C]] in a text. Example: "not [[A]], so [[B]]" prefers the second."""
    marks = _MARK.findall(text)
    if not marks:
        return Verdict(None, "parse_failed", "no [[A]], [[B]] or [[C]]")
    return Verdict(_SCORES[marks[-1]])
