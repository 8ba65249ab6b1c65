"""What a test expects of the answers to one case's examples, and how a case comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Verdict = Literal["passed", "failed", "unparsed", "filtered"]
"""unparsed: an answer that is needed cannot be read; filtered: the expectation does not apply."""

VERDICTS: tuple[Verdict, ...] = ("passed", "failed", "unparsed", "filtered")

LABEL = "label"
"""In place of an answer: the example's own label."""

Scale = Literal["log_odds", "log_probability", "answer"]


@dataclass(frozen=True)
class Answer:
    """What a model said to one example.

    Args:
        output: the completion, or the likeliest option.
        parsed: the answer in one form; None where it could not be read.
        logprobs: option -> log p(option | prompt) in nats; empty where completions were read instead.
        label: the right answer, where the example has one.
    """

    output: str
    parsed: str | None
    logprobs: Mapping[str, float]
    label: str | None = None

    def score(self, option: str, scale: Scale) -> float | None:
        """The score of an option on a scale.

        log_probability: log p(option | prompt). log_odds: log p(option) − log Σ p(other options): positive where the
        option is likelier than the others together. answer: the parsed number itself.
        Example: log p(yes) = log 0.3, log p(no) = log 0.1: log-odds of yes log 3 = 1.10.

        Edge cases: None for an answer that is no number.
        Raises:
            KeyError: no log-probability of the option.
        """
        if scale == "answer":
            try:
                return None if self.parsed is None else float(self.parsed)
            except ValueError:
                return None
        if scale == "log_probability":
            return self.logprobs[option]
        others = [value for name, value in self.logprobs.items() if name != option]
        top = max(others)
        return self.logprobs[option] - top - math.log(math.fsum(math.exp(value - top) for value in others))


class Expectation(Protocol):
    """Judges the answers to the examples of one case, the original first; one verdict for each."""

    @property
    def needs_logprobs(self) -> bool:
        """It reads log-probabilities, so that the test must be asked by likelihood."""

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]: ...


def outcome_of(verdicts: Sequence[Verdict]) -> Verdict:
    """How a case comes out: failed if any example failed; else unparsed, passed or filtered, the first that occurs.

    Source: CheckList (a case fails if any of its examples fails); unparsed is ours.
    """
    return next((one for one in ("failed", "unparsed", "passed") if one in verdicts), "filtered")


@dataclass(frozen=True)
class Equal:
    """Every answer is ``value``, or, where that is "label", the example's own label.

    Edge cases: an example without a label is filtered.
    """

    value: str = LABEL
    needs_logprobs: bool = False

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [self._one(answer) for answer in answers]

    def _one(self, answer: Answer) -> Verdict:
        right = answer.label if self.value == LABEL else self.value
        if right is None:
            return "filtered"
        if answer.parsed is None:
            return "unparsed"
        return "passed" if answer.parsed.casefold() == right.casefold() else "failed"


@dataclass(frozen=True)
class Invariant:
    """Every answer is that to the original. Pairwise; the original itself gets no verdict.

    Args:
        tolerance: a changed answer passes as long as the probability of the original's answer, among the options, moved
            by no more than this; above 0 it needs log-probabilities.

    Edge cases: where the original cannot be read, all is filtered.
    Source: CheckList's ``Expect.inv``. There the first *counted* example is left out, which is not the original where
        that was filtered; here verdicts keep their places.
    """

    tolerance: float = 0.0

    @property
    def needs_logprobs(self) -> bool:
        return self.tolerance > 0

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        original = answers[0]
        return ["filtered", *(self._pair(original, answer) for answer in answers[1:])]

    def _pair(self, original: Answer, other: Answer) -> Verdict:
        if original.parsed is None:
            return "filtered"
        if other.parsed is None:
            return "unparsed"
        if other.parsed.casefold() == original.parsed.casefold():
            return "passed"
        if not self.needs_logprobs:
            return "failed"
        moved = abs(_probability(original, original.parsed) - _probability(other, original.parsed))
        return "passed" if moved <= self.tolerance else "failed"


def _probability(answer: Answer, option: str) -> float:
    """p(option) among the options."""
    top = max(answer.logprobs.values())
    total = math.fsum(math.exp(value - top) for value in answer.logprobs.values())
    return math.exp(answer.logprobs[option] - top) / total


@dataclass(frozen=True)
class Monotonic:
    """A score does not fall (increasing) or rise (decreasing) from the original to any other example. Pairwise.

    ±(s_k − s_0) ≥ −tolerance, + for increasing; s_0 the original's score, s_k that of example k.

    Args:
        increasing: which way the score may go.
        of: the option whose score it is, or "label": the original's label.
        tolerance: how far it may go the wrong way; a negative one asks for a change of at least −tolerance the right
            way. In nats, or, on answers, in their own unit.
        scale: see ``Answer.score``.

    Example: log-odds 1.0, then 0.6, decreasing with tolerance −0.5: −(0.6 − 1.0) = 0.4 < 0.5: failed.

    Edge cases: on log-probabilities, which end at 0, a case that could not fail (decreasing, s_0 ≥ −tolerance) or could
    not pass (increasing, s_0 > tolerance) is filtered. On answers an original that cannot be read is filtered.
    Source: CheckList's ``Expect.monotonic``, which filters likewise at probabilities of 0 and 1.
    """

    increasing: bool
    of: str = LABEL
    tolerance: float = 0.0
    scale: Scale = "log_odds"

    @property
    def needs_logprobs(self) -> bool:
        return self.scale != "answer"

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        option = (answers[0].label or "") if self.of == LABEL else self.of
        first, *others = (answer.score(option, self.scale) for answer in answers)
        return ["filtered", *(self._pair(first, other) for other in others)]

    def _pair(self, first: float | None, other: float | None) -> Verdict:
        if first is None:
            return "filtered"
        if other is None:
            return "unparsed"
        if self.scale == "log_probability" and self._decided(first):
            return "filtered"
        change = other - first if self.increasing else first - other
        return "passed" if change >= -self.tolerance else "failed"

    def _decided(self, first: float) -> bool:
        return first > self.tolerance if self.increasing else first >= -self.tolerance


@dataclass(frozen=True)
class Spread:
    """The scores of one option over a case's examples lie within a tolerance: max − min ≤ tolerance. Group-wise.

    Example: log-odds 0.2, 0.9, 1.3 with tolerance 1: 1.3 − 0.2 = 1.1 > 1: failed.

    Edge cases: fewer than two examples are filtered. With scale "answer", one that is no number makes all unparsed.
    """

    tolerance: float
    of: str = LABEL
    scale: Scale = "log_odds"

    @property
    def needs_logprobs(self) -> bool:
        return self.scale != "answer"

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        if len(answers) < 2:
            return ["filtered"] * len(answers)
        option = (answers[0].label or "") if self.of == LABEL else self.of
        scores = [answer.score(option, self.scale) for answer in answers]
        known = [score for score in scores if score is not None]
        if len(known) < len(scores):
            return ["unparsed"] * len(answers)
        verdict: Verdict = "passed" if max(known) - min(known) <= self.tolerance else "failed"
        return [verdict] * len(answers)


@dataclass(frozen=True)
class ExactlyOne:
    """Exactly one of a case's examples is answered with ``value``. Group-wise: of "is A older than B" and "is B older
    than A" one is true, whichever.

    Edge cases: two with the answer fail whatever the rest is; else an answer that cannot be read leaves it open.
    """

    value: str
    needs_logprobs: bool = False

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        given = [answer.parsed for answer in answers]
        count = sum(one is not None and one.casefold() == self.value.casefold() for one in given)
        verdict: Verdict = "passed" if count == 1 else "failed"
        if count < 2 and None in given:
            verdict = "unparsed"
        return [verdict] * len(answers)


@dataclass(frozen=True)
class AllOf:
    """Every part expects it: failed if one says so; else unparsed, passed or filtered. Example by example."""

    parts: tuple[Expectation, ...]

    @property
    def needs_logprobs(self) -> bool:
        return any(part.needs_logprobs for part in self.parts)

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [outcome_of(many) for many in zip(*(part(answers) for part in self.parts), strict=True)]


@dataclass(frozen=True)
class AnyOf:
    """One part at least is met: passed if one says so; else unparsed, failed or filtered. Example by example."""

    parts: tuple[Expectation, ...]

    @property
    def needs_logprobs(self) -> bool:
        return any(part.needs_logprobs for part in self.parts)

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        order: tuple[Verdict, ...] = ("passed", "unparsed", "failed", "filtered")
        return [
            next(one for one in order if one in many)
            for many in zip(*(part(answers) for part in self.parts), strict=True)
        ]


@dataclass(frozen=True)
class Negated:
    """Passed and failed change places, example by example: ``negated: invariant`` asks every answer to change."""

    part: Expectation

    @property
    def needs_logprobs(self) -> bool:
        return self.part.needs_logprobs

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        turned: dict[Verdict, Verdict] = {"passed": "failed", "failed": "passed"}
        return [turned.get(verdict, verdict) for verdict in self.part(answers)]
