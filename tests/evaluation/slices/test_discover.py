"""Discovered slices: planted ones are found, noise is not, and nothing is reported without a held-out test."""

import json
from dataclasses import replace

import pytest

from tests.evaluation.helm.outcomes import outcome
from tests.evaluation.slices.tables import table
from trimpot.evaluation.slices.discover import discover
from trimpot.evaluation.slices.report import discovery_lines, slice_report, slice_table


def weak_kind(kind, level, topic):
    return kind == "b" and level == "hard"


def weak_topic(kind, level, topic):
    return topic == 0


def test_a_planted_slice_of_metadata_is_found():
    found = discover("t", table(1, 600, weak_kind), 0)
    first = found.slices[0]
    assert first.kind == "metadata"
    assert {"kind=b"} <= set(first.name.split(" & "))
    assert first.name in ("kind=b & level=hard", "kind=b & level≠easy")
    # 0.7 − 0.1, up to noise of some 75 items.
    assert first.excess.low < 0.6 < first.excess.high
    assert first.p <= 0.05


def test_a_planted_slice_of_texts_is_found_and_named_by_its_words():
    found = [one for one in discover("t", table(2, 400, weak_topic), 0).slices if one.kind == "text"]
    named = set(found[0].name.removeprefix("texts with ").split(", "))
    assert named <= {"river", "ocean", "ship", "wave", "island"}
    assert all(
        set(example.split()[1:-1]) <= {"river", "ocean", "ship", "wave", "island"} for example in found[0].examples
    )


@pytest.mark.parametrize(("size", "tables"), [(1, 50), (4, 30)])
def test_tables_without_structure_seldom_give_a_slice(size, tables):
    found = sum(bool(discover("t", table(seed, size=size), seed).slices) for seed in range(tables))
    # P(Binomial(50, 0.05) > 7) = 0.4%, P(Binomial(30, 0.05) > 5) = 0.3%.
    assert found <= (7 if tables == 50 else 5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
def test_in_1000_tables_without_structure_at_most_5_in_100_give_a_slice(size):
    found = sum(bool(discover("t", table(seed, size=size), seed).slices) for seed in range(1000))
    # Binomial(1000, 0.05): standard deviation 6.9.
    assert found <= 64


def test_a_slice_that_errs_on_the_explored_half_alone_is_not_reported():
    """Kind b is wrong on just the half it is found on: reported only if it were tested where it was found."""
    from trimpot.evaluation.slices.compare import items_of
    from trimpot.evaluation.slices.discover import _halves

    some = table(3, 400)
    explored = set(_halves(items_of(some), 0)[0].tolist())
    planted = [
        replace(one, score=0.0) if number in explored and one.slices["kind"] == "b" else one
        for number, one in enumerate(some)
    ]
    found = discover("t", planted, 0)
    assert found.candidates > 0
    assert found.slices == ()
    assert (found.explored, found.held_out) == (200, 200)


def test_items_of_a_cluster_stay_on_one_half():
    from trimpot.evaluation.slices.compare import items_of
    from trimpot.evaluation.slices.discover import _halves

    items = items_of(table(4, 200, size=5))
    first, second = _halves(items, 0)
    assert not set(items.clusters[first]) & set(items.clusters[second])
    assert sorted([*first, *second]) == list(range(200))


def test_the_same_seed_discovers_the_same():
    some = table(1, 300, weak_kind)
    assert discover("t", some, 5) == discover("t", some, 5)


def test_too_few_items_are_one_line():
    found = discover("t", table(0, 79), 0)
    assert found.line == "t: 79 items are too few to look for slices (80 are needed)"
    assert discover("t", [], 0).held_out == 0


def test_without_metadata_and_words_there_are_no_candidates():
    found = discover("t", [outcome(n, float(n % 2), prompt="1 2") for n in range(100)], 0)
    assert found.line == "t: no slice discovered (0 candidates from 50 items, none held on the other 50)"


def test_a_report_holds_known_and_discovered_slices():
    report = slice_report(table(1, 600, weak_kind), 0)
    json.dumps(report.as_dict())
    lines = discovery_lines(report.discoveries)
    assert "held on the other 300" in lines[0]
    assert lines[1].startswith("  kind=b & level")
    assert "kind=b & level=hard" in list(slice_table(report.rows).columns[1].cells)
