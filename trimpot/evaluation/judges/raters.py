"""Do people (or judges) who label the same items agree, and who differs from the rest? No torch here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.evaluation.judges.duel import share
from trimpot.statistics.agreement import cohen_kappa, confusion, fleiss_kappa, krippendorff_alpha
from trimpot.statistics.intervals import wilson

TIE = "tie"
ORDERS = ("AB", "BA")


@dataclass(frozen=True)
class Rating:
    """A rater's label of an item. ``order`` is "AB" or "BA", which of two answers was shown first; empty: not recorded.

    Labels of pairs name the model (A, B or tie), not the place.
    """

    item: str
    rater: str
    label: str
    order: str = ""


@dataclass(frozen=True)
class OrderConflicts:
    """Items that a rater labelled in both orders: how often the two contradict each other, and which place gains."""

    rate: Estimate
    first: int
    second: int


@dataclass(frozen=True)
class RaterReport:
    """One rater against the majority of the others.

    ``agreement``: share of items on which they say the same; ``confused``: (rater's label, majority's label) -> items,
    where they differ, the most frequent first. Items on which the others have no majority count for nothing.
    """

    rater: str
    ratings: int
    agreement: Estimate
    confused: tuple[tuple[str, str, int], ...]
    orders: OrderConflicts | None


@dataclass(frozen=True)
class Agreement:
    """All raters of a file. ``fleiss`` is None where items have different numbers of ratings; ``pairs``: Cohen's κ."""

    items: int
    labels: tuple[str, ...]
    alpha: Estimate
    fleiss: Estimate | None
    pairs: Mapping[tuple[str, str], Estimate]
    raters: tuple[RaterReport, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values; a pair of raters is "a, b"."""
        return {**asdict(self), "pairs": {", ".join(pair): asdict(value) for pair, value in self.pairs.items()}}


def ratings_of(records: Iterable[tuple[int, Mapping[str, Any]]], file: str) -> list[Rating]:
    """Ratings from records {"item", "rater", "label"}, and optionally "order" ("AB" or "BA").

    "winner" serves for "label". A label may be a string, a whole number, true or false.

    Raises:
        UsageError: one line with file and line: a missing field, a label of another type, an unknown order, or a rater
            who labels an item twice in one order; no record.
    """
    found: dict[tuple[str, str, str], Rating] = {}
    for line, record in records:
        where = f"{file}:{line}"
        item, rater = (_name(record, name, where) for name in ("item", "rater"))
        label, order = record.get("label", record.get("winner")), record.get("order") or ""
        if not isinstance(label, str | int) or label == "":
            problem = "has no label" if label in (None, "") else f"label is {type(label).__name__}"
            raise UsageError(where, problem, "Give a string, a whole number, true or false.")
        if order and (not isinstance(order, str) or order not in ORDERS):
            raise UsageError(where, f"order is {order!r}", 'Give "AB" or "BA", or leave it out.')
        if (item, rater, order) in found:
            problem = f"rater {rater} labels item {item} a second time" + (f" in order {order}" if order else "")
            raise UsageError(where, problem, 'Keep one, or tell the two apart by "order".')
        found[item, rater, order] = Rating(item, rater, str(label), order)
    if not found:
        raise UsageError(file, "holds no rating", 'Give JSONL: {"item": …, "rater": …, "label": …}.')
    return list(found.values())


def _name(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        problem = f"has no {name}" if value in (None, "") else f"{name} is {type(value).__name__}"
        raise UsageError(where, problem, f'Give "{name}" as a string.')
    return str(value)


def rater_agreement(ratings: Sequence[Rating]) -> Agreement:
    """Krippendorff's α and Fleiss's κ of all raters, Cohen's κ of each two, and each against the majority of the rest.

    A rater who labelled an item in both orders has one label there: the common one, or a tie where the two contradict
    each other (the swap rule).

    Edge cases: one rater: no agreement, all values None. Two raters without an item in common: κ None with n = 0.
    """
    labels, orders = _one_label(ratings)
    raters = list(dict.fromkeys(rating.rater for rating in ratings))
    by_item: dict[str, dict[str, str]] = defaultdict(dict)
    for (item, rater), label in labels.items():
        by_item[item][rater] = label
    table = [list(by_rater.values()) for by_rater in by_item.values()]
    sizes = {len(item) for item in table}
    kappas = {}
    for one, other in combinations(raters, 2):
        both = [(found[one], found[other]) for found in by_item.values() if one in found and other in found]
        kappas[one, other] = cohen_kappa([a for a, _ in both], [b for _, b in both])
    return Agreement(
        items=len(by_item),
        labels=tuple(sorted(set(labels.values()))),
        alpha=krippendorff_alpha(table),
        fleiss=fleiss_kappa(table) if len(sizes) == 1 and min(sizes) > 1 else None,
        pairs=kappas,
        raters=tuple(_report(rater, by_item, orders[rater]) for rater in raters),
    )


def _one_label(ratings: Sequence[Rating]) -> tuple[dict[tuple[str, str], str], dict[str, list[tuple[str, str, str]]]]:
    """(item, rater) -> label, and rater -> (item, label in order AB, label in order BA) of items rated in both."""
    by_order: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for rating in ratings:
        by_order[rating.item, rating.rater][rating.order] = rating.label
    labels, orders = {}, defaultdict(list)
    for (item, rater), found in by_order.items():
        said = set(found.values())
        labels[item, rater] = said.pop() if len(said) == 1 else TIE
        if all(order in found for order in ORDERS):
            orders[rater].append((item, found["AB"], found["BA"]))
    return labels, orders


def _report(rater: str, by_item: Mapping[str, Mapping[str, str]], both: Sequence[tuple[str, str, str]]) -> RaterReport:
    mine, theirs = [], []
    for found in by_item.values():
        others = Counter(label for name, label in found.items() if name != rater).most_common(2)
        clear = len(others) == 1 or (len(others) == 2 and others[0][1] > others[1][1])
        if rater in found and clear:
            mine.append(found[rater])
            theirs.append(others[0][0])
    labels, table = confusion(mine, theirs)
    confused = [
        (str(labels[i]), str(labels[j]), int(table[i, j]))
        for i in range(len(labels))
        for j in range(len(labels))
        if i != j and table[i, j]
    ]
    same = [float(a == b) for a, b in zip(mine, theirs, strict=True)]
    return RaterReport(
        rater=rater,
        ratings=sum(rater in found for found in by_item.values()),
        agreement=share(same, list(range(len(same)))),
        confused=tuple(sorted(confused, key=lambda one: -one[2])),
        orders=_order_conflicts(both) if both else None,
    )


def _order_conflicts(both: Sequence[tuple[str, str, str]]) -> OrderConflicts:
    """The place shown first gains where A is preferred more with A first than with B first."""
    value = {"A": 1.0, TIE: 0.5, "B": 0.0}
    conflicts = [(ab, ba) for _, ab, ba in both if ab != ba]
    known = [value[ab] - value[ba] for ab, ba in conflicts if ab in value and ba in value]
    return OrderConflicts(
        wilson(len(conflicts), len(both)), sum(gain > 0 for gain in known), sum(gain < 0 for gain in known)
    )
