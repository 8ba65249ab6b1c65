"""Does a language model as the judge of two answers prefer a place, and do both orders together judge better?"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from trimpot.core.rows import ChatRow, Message, PromptRow
from trimpot.core.seeds import seed_for, stream
from trimpot.data.embedded import embedded_rows
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.judges.judge import Question
from trimpot.evaluation.judges.model_judge import JudgePrompt
from trimpot.evaluation.judges.pairs import AnswerPair
from trimpot.evaluation.language_model import LanguageModel
from trimpot.evaluation.local import LocalModel
from trimpot.models.load import load
from trimpot.studies.measures import Difference, Growth, Level
from trimpot.studies.second_task import fine_tune
from trimpot.studies.study import Budget, Chart, Settings, Study, Values

ROWS, TRAINED = "reasoning-easy", "judge.safetensors"
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


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Trains the second judge on pairs of all gaps, the right answer as often first as second."""
    policy = load(settings["model"], seed=seed)
    pairs = [pair for gap in GAPS for pair in pairs_of("train", settings["trained_on"], gap, seed)]
    # In the order of the rows places would go by kinds of questions.
    stream(seed, "places").shuffle(pairs)
    rows = [_told(pair, right_first=bool(number % 2)) for number, pair in enumerate(pairs)]
    samples = tokenise(rows, ChatTemplate(policy.tokenizer, policy.virtual_ids), settings["max_length"]).samples
    fine_tune(policy, samples, settings, settings["learning_rate"], seed_for(seed, "order"))
    save_file({name: value.contiguous() for name, value in policy.trainable().items()}, folder / TRAINED)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """The judge on pairs of a right and a wrong answer, both orders of each: see ``measured``.

    ``judge`` plain or trained, ``gap`` of GAPS; ``draw`` chooses the pairs.
    """
    policy = load(settings["model"], seed=seed)
    if values["judge"] == "trained":
        policy.model.load_state_dict(load_file(folder / TRAINED, str(policy.device)), strict=False)
    drawn = seed_for(seed, "pairs", int(values["draw"]))
    pairs = pairs_of("evaluation", settings["pairs"], str(values["gap"]), drawn)
    return measured(margins(LocalModel(policy), pairs), stream(drawn, "shown first"))


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


def _told(pair: AnswerPair, right_first: bool) -> ChatRow:
    """The question to the judge with the right verdict."""
    prompt = PROMPT.shown(Question(pair, swapped=right_first))
    assert not isinstance(prompt, str)
    return ChatRow((*prompt, Message("assistant", LETTERS[0 if right_first else 1])))


def _arms(judges: Sequence[str], gaps: Sequence[str]) -> Mapping[str, Values]:
    arms: dict[str, Values] = {
        f"{judge}, {gap}": {"judge": judge, "gap": gap, "draw": 0} for judge in judges for gap in gaps
    }
    return {**arms, "trained, near, other pairs": {"judge": "trained", "gap": "near", "draw": 1}}


PLAIN: Values = {"judge": "plain", "draw": 0}
SKILLED: Values = {"judge": "trained", "draw": 0}
SETTINGS = {
    "model": "smollm2-135m", "pairs": 96, "trained_on": 120, "steps": 60, "batch": 8, "learning_rate": 5e-5,
    "max_length": 256,
}  # fmt: skip

STUDY = Study(
    id="judge-position-bias",
    question="Does a judge of two answers go by their place, and does asking in both orders mend it?",
    model="smollm2-135m",
    scale=(
        "SmolLM2-135M-Instruct in float32 from a 4-bit file, as it is and trained as a judge for 60 steps of 8 pairs;"
        " which letter is likelier, on 96 pairs of a right and an equally long wrong answer to easy questions whose"
        " answer is a number; settings chosen on seeds 0-1"
    ),
    tests={
        "conflicts": Level("conflicts", "share of pairs whose verdict changes with the order, judge as it is", PLAIN),
        "favoured": Level("favoured", "share of verdicts for the favoured place less a half, judge as it is", PLAIN),
        "gap": Difference(
            "conflicts", "trained, near", "trained, no number",
            "share of pairs whose verdict changes with the order, wrong by 1 less no number, trained judge",
        ),
        "both": Growth(
            "right_both", "right_one", "share of right verdicts, both orders less one, trained judge", SKILLED
        ),
        "balance": Growth(
            "place_agreed", "place_one", "wins of the first place away from a half, agreed less one order, plain judge",
            PLAIN,
        ),
    },
    claims={
        "judge-prefers-a-place": "conflicts",
        "place-bias-is-no-chance": "favoured",
        "near-answers-flip-more": "gap",
        "both-orders-judge-better": "both",
        "asking-both-orders-balances": "balance",
    },
    budgets={
        "quick": Budget(
            _arms(("plain", "trained"), ("near", "no number")), 2, {**SETTINGS, "pairs": 48, "batch": 4}, minutes=4.0
        ),
        "full": Budget(_arms(("plain", "trained"), GAPS), 8, SETTINGS, minutes=30.0),
    },
    prepare=prepare,
    run=run,
    control=Difference(
        "conflicts", "trained, near", "trained, near, other pairs", "share of conflicts on two draws of pairs"
    ),
    chart=Chart(
        "conflicts", "gap", "judge", {"draw": 0}, "share of pairs whose verdict changes with the order",
        "the wrong answer", "judge", log=False,
    ),
    first_seed=10,
)  # fmt: skip
