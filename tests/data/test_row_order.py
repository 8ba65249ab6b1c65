from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.samples import Sample
from trimpot.data.order import RowSource

sizes = st.integers(1, 23)


def source(rows: int, batch: int, seed: int) -> RowSource:
    return RowSource([Sample(str(i), (), ()) for i in range(rows)], batch, seed)


def drawn(rows: RowSource, steps: range) -> list[str]:
    return [sample.row_id for step in steps for sample in rows.draw(step)]


@given(sizes, sizes, st.integers(0, 5))
def test_every_row_once_per_epoch(rows, batch, seed):
    epochs = 3
    ids = drawn(source(rows, batch, seed), range(epochs * rows))[: epochs * rows]
    for epoch in range(epochs):
        assert sorted(ids[epoch * rows : (epoch + 1) * rows]) == sorted(str(i) for i in range(rows))


@given(sizes, sizes, st.lists(st.integers(0, 40), max_size=8))
def test_a_step_depends_on_the_step_alone(rows, batch, steps):
    one = source(rows, batch, 7)
    for step in steps:
        assert one.draw(step) == source(rows, batch, 7).draw(step)


@given(sizes, st.integers(1, 6))
def test_batch_size_does_not_change_the_order(rows, batch):
    assert drawn(source(rows, batch, 3), range(12)) == drawn(source(rows, 1, 3), range(12 * batch))


def test_seed_and_epoch_change_the_order():
    first = drawn(source(20, 20, 0), range(1))
    assert first != drawn(source(20, 20, 1), range(1))
    assert first != drawn(source(20, 20, 0), range(1, 2))


def test_rows_seen_and_epoch():
    rows = source(8, 4, 0)
    assert (rows.rows_seen(0), rows.epoch(0)) == (0, 0.0)
    assert (rows.rows_seen(3), rows.epoch(3)) == (12, 1.5)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="nothing to draw"):
        RowSource([], 4, 0)
    with pytest.raises(ValueError, match="nothing to draw"):
        source(4, 0, 0)
