"""Environments of several turns: what is said to the model after its answer, and when the conversation ends."""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import Message, PromptRow
from trimpot.data.pairs import RIGHT_FROM
from trimpot.data.template import ChatTemplate
from trimpot.data.turns import PROBE, WHERE
from trimpot.rollout.engine import Completion
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.verifiers import from_user_file


@dataclass(frozen=True)
class Reply:
    """What an environment says to an answer.

    ``text`` is the next user message; None ends the conversation. ``reward`` is the answer's; the last one that is not
    None is the conversation's. None throughout: the stage's rewards score the last answer.
    """

    text: str | None
    reward: float | None = None


class Environment(Protocol):
    """The other side of one conversation; each conversation gets an object of its own.

    It must not draw random numbers of its own: the same answers must get the same replies, or a resumed run is another.
    """

    def begin(self, row: PromptRow) -> None:
        """Takes the prompt row before the first answer."""

    def reply(self, text: str) -> Reply:
        """Answers the model's text (without special tokens). Also called after the last turn, for the reward."""


class Retry:
    """Tells the model that its answer is wrong, until it is right by the row's verifier or the turns are used up.

    The reward is left to the stage's rewards, which score the last answer.
    Edge cases: a verifier that fails ends the conversation without a reward.
    """

    TEXT = "That is not right. Try again."

    def __init__(self, verifiers: Rewards) -> None:
        self._verifiers = verifiers

    def begin(self, row: PromptRow) -> None:
        self._row = row

    def reply(self, text: str) -> Reply:
        """Raises RuntimeError when the verifier fails."""
        ((score,),) = self._verifiers.score([self._row], [()], [[Completion()]], [[text]])
        if score.status == "error":
            raise RuntimeError(next(iter(score.errors.values())))
        return Reply(None if score.value >= RIGHT_FROM else self.TEXT)


class Calculator:
    """Computes what the model writes between <calc> and </calc>; an answer without a call ends the conversation.

    The last call of an answer counts. Numbers, + - * / // % ** and parentheses are all it knows.
    Edge cases: what cannot be computed is answered with "error: " and the reason.
    """

    CALL = re.compile(r"<calc>(.*?)</calc>", re.DOTALL)

    def begin(self, row: PromptRow) -> None:
        """Every row is treated alike."""

    def reply(self, text: str) -> Reply:
        calls = self.CALL.findall(text)
        if not calls:
            return Reply(None)
        try:
            return Reply(str(calculate(calls[-1].strip())))
        except ValueError as error:
            return Reply(f"error: {error}")


ENVIRONMENTS: dict[str, Callable[[Rewards], Environment]] = {"retry": Retry, "calculator": lambda _: Calculator()}
"""Each is made with the rows' own verifiers, under the stage's time limit.

An environment of the user's has no time limit.
"""

LONGEST_EXPRESSION = 200
LARGEST_EXPONENT = 100
LARGEST_NUMBER = 1e100
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def calculate(expression: str) -> int | float:
    """The value of an arithmetic expression; nothing else is evaluated.

    Raises:
        ValueError: it is no such expression, divides by zero, or is longer or larger than 200 characters, an exponent
            of 100 and numbers of 1e100.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise ValueError(f"longer than {LONGEST_EXPRESSION} characters")
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("not an expression") from error
    except ZeroDivisionError as error:
        raise ValueError("division by zero") from error


def _value(node: ast.expr) -> int | float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > LARGEST_EXPONENT:
            raise ValueError("too large")
        try:
            return _bounded(OPERATORS[type(node.op)](left, right))
        except OverflowError as error:
            raise ValueError("too large") from error
    raise ValueError("only numbers, + - * / // % ** and parentheses are allowed")


def _bounded(value: Any) -> int | float:
    if isinstance(value, complex) or not math.isfinite(value):
        raise ValueError("not a real number")
    if abs(value) > LARGEST_NUMBER:
        raise ValueError("too large")
    number: int | float = value
    return number


def find_environment(name: str, time_limit: float) -> Callable[[], Environment]:
    """An environment of the table, or the user's own ``file.py:Class``, made without arguments for each conversation.

    ``time_limit``: seconds that a verifier may take for one answer.

    Raises:
        UsageError: unknown name, no such class (see ``from_user_file``), or one without ``begin`` and ``reply``.
    """
    if name in ENVIRONMENTS:
        return functools.partial(ENVIRONMENTS[name], Rewards(None, {}, time_limit))
    if ":" not in name:
        raise UsageError("environment", f"{name!r} is unknown", nearest(name, ENVIRONMENTS) + " Or name file.py:Class.")
    found: Callable[[], Environment] = from_user_file(name, "class")
    if not (hasattr(found, "begin") and hasattr(found, "reply")):
        raise UsageError(name, "has not both methods begin and reply", "Write it as a class with both.")
    return found


def reply_ids(template: ChatTemplate, before: Sequence[Message], reply: str) -> tuple[int, ...]:
    """The ids between an answer's end of turn and the next answer: the reply as a user message, generation prompt.

    ``before`` are the messages that were answered. The answer itself plays no part, so that what a template does to
    finished answers (trimming, taking out thinking) cannot change the ids that were sampled.

    Raises:
        UsageError: the template writes something else after an answer once a message follows.
    """
    renderer = template.renderer
    end = renderer.end_of_turn(renderer.frame(before).tail) or ""
    after = [*before, Message("assistant", PROBE), Message("user", reply)]
    _, found, rest = renderer.frame(after).opening.rpartition(PROBE)
    if not found or not rest.startswith(end):
        problem = "writes something else after an answer once a message follows"
        raise UsageError(WHERE, problem, "Use another chat template, or turns: 1.")
    return tuple(template.tokenizer(rest.removeprefix(end), add_special_tokens=False, verbose=False)["input_ids"])
