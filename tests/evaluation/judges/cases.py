"""Pairs and judges whose right verdict is known: constructed, as everything here."""

from dataclasses import dataclass

from trimpot.core.progress import ignore
from trimpot.evaluation.judges.judge import Verdict
from trimpot.evaluation.judges.pairs import AnswerPair
from trimpot.store.outcomes import Outcome


def pair(number, a="no", b="yes", cluster="", **more):
    return AnswerPair("t", f"item {number}", f"Question {number}?", a, b, cluster, **more)


def outcome(item, output, task="t", sample=0, prompt=None, **more):
    return Outcome(
        run="r",
        weights=f"weights of {more.pop('model', 'm')}",
        task=task,
        item=item,
        cluster=more.pop("cluster", item),
        slices=more.pop("slices", {}),
        perturbation="none",
        prompt_ids=(),
        prompt=prompt or f"Question {item}?",
        expected="",
        output=output,
        score=1.0,
        status="ok",
        sample=sample,
    )


@dataclass
class FunctionJudge:
    """Decides by ``prefer(question, draw)``: 1 first shown, 0 second, 1/2 tie, None no verdict."""

    prefer: object
    name: str = "function"
    order_matters: bool = True
    temperature: float = 0.0
    reads_anything: bool = True
    asked: int = 0

    def verdicts(self, questions, draw=0, progress=ignore):
        self.asked += len(questions)
        progress(len(questions), len(questions))
        found = [self.prefer(question, draw) for question in questions]
        return [Verdict(one, "ok" if one is not None else "parse_failed") for one in found]


def longer(question, draw=0):
    a, b = len(question.first), len(question.second)
    return 0.5 if a == b else float(a > b)


def by_content(question, draw=0):
    """Counts the word "right" once per answer: padding and empty phrases win nothing."""
    a, b = "right" in question.first, "right" in question.second
    return 0.5 if a == b else float(a)
