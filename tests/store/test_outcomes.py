import dataclasses
import errno

import pytest

from trimpot.core.errors import UsageError
from trimpot.store import atomic
from trimpot.store.outcomes import Outcome, read_outcomes, write_outcomes

ONE = Outcome(
    run="r", weights="abc", task="sums", item="i1", cluster="c1", slices={"difficulty": "2 terms", "ü": "x"},
    perturbation="none", prompt_ids=(1, 2, 3), prompt="2+2?", expected="4", output="<b>4</b>\n", score=1.0, status="ok",
)  # fmt: skip


def test_outcomes_come_back(tmp_path):
    two = dataclasses.replace(ONE, item="i2", slices={}, prompt_ids=(), score=None, status="parse_failed")
    write_outcomes(tmp_path / "s" / "outcomes.parquet", [ONE, two])
    assert read_outcomes(tmp_path / "s" / "outcomes.parquet") == [ONE, two]


def test_no_outcomes(tmp_path):
    write_outcomes(tmp_path / "outcomes.parquet", [])
    assert read_outcomes(tmp_path / "outcomes.parquet") == []


def test_unknown_status_is_refused():
    with pytest.raises(ValueError, match="'great' is none of ok"):
        dataclasses.replace(ONE, status="great")


def test_unusable_files(tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        read_outcomes(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        read_outcomes(tmp_path / "text.parquet")
    import polars as pl

    pl.DataFrame({"task": ["a"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(UsageError, match="no column run, weights, item"):
        read_outcomes(tmp_path / "other.parquet")


def test_a_full_disk_keeps_the_previous_outcomes(tmp_path, monkeypatch):
    path = tmp_path / "outcomes.parquet"
    write_outcomes(path, [ONE])

    def full(_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(UsageError, match="disk is full"):
        write_outcomes(path, [])
    assert read_outcomes(path) == [ONE]
