"""People's labels as the judge: a JSONL file that says which answer of an item was better. No torch here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.data.files import read_records
from trimpot.evaluation.judges.judge import Question, Verdict

WINNERS = {"A": 0.0, "B": 1.0, "tie": 0.5}
"""A label -> the score of B."""
ORDERS = {"AB": False, "BA": True}

Key = tuple[str, str, int]


@dataclass(frozen=True)
class LabelsJudge:
    """Verdicts of people. Several labels of one item in one order are its mean score, cut to win, tie or loss.

    ``scores``: task, item, sample -> by order (None where it was not recorded) the scores of B. An item labelled in one
    order only, or without one, has the same verdict in the other, which counts for no position bias.
    """

    name: str
    scores: Mapping[Key, Mapping[bool | None, Sequence[float]]]

    temperature = 0.0
    reads_anything = False

    @property
    def order_matters(self) -> bool:
        """True where labels say in which order the answers were shown."""
        return any(order is not None for by_order in self.scores.values() for order in by_order)

    def verdicts(self, questions: Sequence[Question], draw: int = 0, progress: Progress = ignore) -> list[Verdict]:
        return [self._verdict(question) for question in questions]

    def _verdict(self, question: Question) -> Verdict:
        pair = question.pair
        by_order = self.scores.get((pair.task, pair.item, pair.sample), {})
        orders = [one for one in (question.swapped, None, not question.swapped) if by_order.get(one)]
        if not orders:
            return Verdict(None, "unscored", "no label")
        order, found = orders[0], by_order[orders[0]]
        mean = sum(found) / len(found)
        b = 0.5 if mean == 0.5 else float(mean > 0.5)
        return Verdict(b if question.swapped else 1.0 - b, turned=order != question.swapped)


def read_labels(path: Path) -> LabelsJudge:
    """Labels from JSONL: {"task", "item", "winner": "A", "B" or "tie"}, and optionally "sample", "order", "rater".

    "order" is "AB" or "BA", which answer was shown first; A and B are the models, whatever the order.

    Raises:
        UsageError: one line with file and line: a missing field, an unknown winner or order; no such file; no label.
    """
    if not path.is_file():
        raise UsageError(str(path), "there is no such file", 'Give JSONL: {"task": …, "item": …, "winner": "A"}.')
    scores: dict[Key, dict[bool | None, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, row in read_records(str(path), "train"):
        where = f"{path}:{number}"
        task, item = (_text(row, name, where) for name in ("task", "item"))
        winner, order, sample = row.get("winner"), row.get("order"), row.get("sample", 0)
        if not isinstance(winner, str) or winner not in WINNERS:
            raise UsageError(where, f"winner is {winner!r}", 'Give "A", "B" or "tie".')
        if order is not None and (not isinstance(order, str) or order not in ORDERS):
            raise UsageError(where, f"order is {order!r}", 'Give "AB" or "BA", or leave it out.')
        if not isinstance(sample, int) or isinstance(sample, bool):
            raise UsageError(where, f"sample is {sample!r}, not a whole number", "Give a number, or leave it out.")
        scores[task, item, sample][None if order is None else ORDERS[order]].append(WINNERS[winner])
    if not scores:
        raise UsageError(str(path), "holds no label", 'Give JSONL: {"task": …, "item": …, "winner": "A"}.')
    return LabelsJudge(f"labels of {path}", {key: dict(by_order) for key, by_order in scores.items()})


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise UsageError(where, f"has no {name}" if value is None else f"{name} is not a string", f'Give "{name}".')
    return value
