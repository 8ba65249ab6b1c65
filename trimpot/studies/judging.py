"""A judge of two answers asked in both orders: pairs of a right and a wrong answer, and what the order does."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trimpot.core.rows import ChatRow, Message, PromptRow
from trimpot.core.seeds import stream
from trimpot.data.embedded import embedded_rows
from trimpot.evaluation.judges.judge import Question
from trimpot.evaluation.judges.model_judge import JudgePrompt
from trimpot.evaluation.judges.pairs import AnswerPair
from trimpot.evaluation.language_model import LanguageModel

ROWS = "reasoning-easy"
PROMPT = JudgePrompt(
    "Question: {question}\nAnswer A: {first}\nAnswer B: {second}\n"
    "Which answer is correct? Reply with one letter: A or B."
)
LETTERS = ("A", "B")
GAPS = ("near", "far", "no number")
"""How a wrong answer, as long as the right one, differs from it: by 1, by 3 or more, or it is no number."""
SYMBOLS = "?!#"
DRAWN = 4
"""Rows drawn for one pair, of which more than a quarter have a number as their answer."""

Margins = NDArray[np.float64]


def pairs_of(split: str, count: int, gap: str, seed: int) -> list[AnswerPair]:
    """Pairs of a wrong (``a``) and the right answer (``b``), equally long, to questions whose answer is a number.

    Raises:
        ValueError: too few of the rows drawn have a number.
    """
    pairs = []
    for row in embedded_rows(ROWS, split, DRAWN * count, seed):
        assert isinstance(row, PromptRow)
        right = row.answer
        if right.isdecimal():
            wrong = wrong_answer(right, gap, stream(seed, "wrong", gap, row.id))
            pairs.append(AnswerPair(ROWS, row.id, row.prompt[-1].content, wrong, right))
    if len(pairs) < count:
        raise ValueError(f"{len(pairs)} of {DRAWN * count} rows have a number, and {count} are wanted")
    return pairs[:count]


def wrong_answer(right: str, gap: str, draw: random.Random) -> str:
    """A wrong answer with as many characters as the right one.

    Example: 7 near is 6 or 8, far 0 to 4, as 10 is longer, and without a number one of SYMBOLS.
    """
    if gap == "no number":
        return "".join(draw.choice(SYMBOLS) for _ in right)
    value = int(right)
    shortest = 10 ** (len(right) - 1) if len(right) > 1 else 0
    others = range(shortest, 10 ** len(right))
    if gap == "near":
        return str(draw.choice([near for near in (value - 1, value + 1) if near in others]))
    return str(draw.choice([far for far in others if abs(far - value) >= 3]))


def margins(model: LanguageModel, pairs: Sequence[AnswerPair]) -> Margins:
    """log p("A") − log p("B") with the wrong answer shown first, and with the right one.

    The signs are LikelihoodJudge's verdicts, which do not tell by how much.

    Shapes: [pair, 2]. Units: nats.
    """
    orders = [PROMPT.shown(Question(pair, swapped)) for pair in pairs for swapped in (False, True)]
    found = model.loglikelihood([(prompt, letter) for prompt in orders for letter in LETTERS])
    logprobs = np.array([one.logprob for one in found]).reshape(len(pairs), 2, 2)
    return logprobs[:, :, 0] - logprobs[:, :, 1]


def measured(margin: Margins, draw: random.Random) -> dict[str, float]:
    """What the order does to the verdicts; ``margin`` as ``margins`` gives it, above 0 for the answer shown first.

    ``conflicts``: share of pairs whose verdict changes with the order. ``first``: share of verdicts for the first
    place. ``favoured``: share of verdicts for the place that won more often in every other pair, among the rest, less
    ½, both ways round: chance has the expectation 0. ``right_one`` and ``right_both``: share of right verdicts in one
    order, and by the mean margin of both. ``place_one``: how far from ½ the first place's wins are when a coin chooses
    the order of a pair; ``place_agreed``: the same where a win counts only if both orders agree, else as ½. ``place``
    and ``quality``, in nats: mean margin for the first place, and for the right answer.

    Example: margins 2, 1 and 1, 3: the first place wins all four verdicts, both pairs conflict, one order is right in
    half; the means, (1 − 2)/2 and (3 − 1)/2, are right in the second: ½. place is 7/4 and quality (−½ + 1)/2 = ¼.
    """
    first = (np.sign(margin) + 1) / 2
    clash = np.sign(first.sum(axis=1) - 1)
    toward_right = (margin[:, 1] - margin[:, 0]) / 2
    halves = (first[::2].mean() - 0.5, first[1::2].mean() - 0.5)
    shown = first[np.arange(len(first)), [draw.randrange(2) for _ in first]]
    agreed = np.where(clash == 0, shown, 0.5)
    return {
        "conflicts": float(np.abs(clash).mean()),
        "first": float(first.mean()),
        "favoured": float(np.sign(halves[0]) * halves[1] + np.sign(halves[1]) * halves[0]) / 2,
        "right_one": float((1 - first[:, 0] + first[:, 1]).mean() / 2),
        "right_both": float(((np.sign(toward_right) + 1) / 2).mean()),
        "place_one": float(abs(shown.mean() - 0.5)),
        "place_agreed": float(abs(agreed.mean() - 0.5)),
        "place": float(margin.mean()),
        "quality": float(toward_right.mean()),
    }


def told(pair: AnswerPair, right_first: bool) -> ChatRow:
    """A row that trains a judge: the question with the right verdict."""
    prompt = PROMPT.shown(Question(pair, swapped=right_first))
    assert not isinstance(prompt, str)
    return ChatRow((*prompt, Message("assistant", LETTERS[0 if right_first else 1])))
