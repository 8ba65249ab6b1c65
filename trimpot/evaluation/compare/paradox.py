"""Simpson's paradox: ahead in every slice, behind over all, because the sides were asked other items."""

from __future__ import annotations

import numpy as np

from trimpot.evaluation.compare.result import Paradox
from trimpot.evaluation.compare.table import PairTable


def paradoxes(table: PairTable) -> tuple[Paradox, ...]:
    """Every slice by whose values one side is ahead in each, while the other is ahead over all its own items.

    Each side's means are over the items that it has a score for, paired or not; only where the sets differ can there
    be a paradox, since paired items weigh alike on both sides. "task" counts as a slice.
    Example: A right on 9 of 10 easy and 30 of 90 hard, B on 81 of 90 easy … see the tests.

    Edge cases: a value that one side was never asked is left aside; fewer than two common values: none.
    Source: Simpson 1951.
    """
    found = []
    for group in dict.fromkeys(table.groups.tolist()):
        inside = (table.groups == group) & table.unperturbed
        a, b = inside & table.a.scored, inside & table.b.scored
        if (a == b).all():
            continue
        for name, values in (("task", table.tasks), *sorted(table.slices.items())):
            within, weights_a, weights_b = {}, np.zeros(values.size, bool), np.zeros(values.size, bool)
            for value in sorted({one for one in values[a | b].tolist() if one is not None}):
                here = values == value
                if (a & here).any() and (b & here).any():
                    within[value] = _improvement(table, a & here, b & here)
                    weights_a |= a & here
                    weights_b |= b & here
            if len(within) < 2:
                continue
            overall = _improvement(table, weights_a, weights_b)
            if (overall < 0 and min(within.values()) > 0) or (overall > 0 and max(within.values()) < 0):
                found.append(Paradox(group, name, overall, within))
    return tuple(found)


def _improvement(table: PairTable, a: np.ndarray, b: np.ndarray) -> float:
    sign = float(table.sign[a][0])
    return sign * (float(table.b.mean[b].mean()) - float(table.a.mean[a].mean()))
