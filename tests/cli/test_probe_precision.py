"""The commands probe precision and probe recompute, called in this process on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trimpot.cli.probe_precision import precision, recompute
from trimpot.core.errors import UsageError

APP = typer.Typer()
APP.command("precision")(precision)
APP.command("recompute")(recompute)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"say {n}", "completion": f"{n} it is"}) + "\n" for n in range(24)))
    return str(path)


def called(*arguments: str) -> str:
    found = CliRunner().invoke(APP, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


SMALL = ("--steps", "3", "--batch", "4", "--orders", "2", "--measured", "4")


def test_precision_prints_tables_and_one_json_object_and_draws(rows: str, tmp_path: Path) -> None:
    chart = tmp_path / "charts" / "precision.svg"
    text = called("precision", "tiny-0.1m", "--data", rows, *SMALL, "--modes", "bf16-no-master, fp16-dynamic")
    for word in (
        "bf16-no-master",
        "fp16-dynamic",
        "65536",
        "hidden states",
        "band:",
        "loss scale:",
        "updates are lost",
    ):
        assert word in text
    out = called(
        "precision", "tiny-0.1m", "--data", rows, *SMALL, "--modes", "fp16-dynamic", "--json", "--plot", str(chart)
    )
    found = json.loads(out)
    assert [one["name"] for one in found["modes"]] == ["fp32", "fp16-dynamic"]
    assert found["chart"] == str(chart)
    assert "smallest normal" in chart.read_text()
    assert found["settings"]["steps"] == len(found["band"]) == len(found["modes"][1]["measured"]) == 3


def test_recompute_prints_a_table_and_one_json_object_and_draws(tmp_path: Path) -> None:
    chart = tmp_path / "recompute.svg"
    small = ("recompute", "tiny-0.1m", "--tokens", "32", "--sequences", "1", "--repeats", "1")
    text = called(*small, "--every", "2")
    for word in ("none", "full", "every 2", "selective", "same, bit by bit", "least memory:"):
        assert word in text
    found = json.loads(called(*small, "--json", "--plot", str(chart)))
    assert [one["mode"] for one in found["modes"]] == ["none", "full", "every", "selective"]
    assert found["layers"] == 2
    assert "kept by layers" in chart.read_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("precision", "tiny-0.1m", "--data", "x", "--modes", "fp15"), "'fp15' is not a precision mode"),
        (("precision", "tiny-0.1m", "--data", "x", "--plot", "a.pdf"), "cannot draw a .pdf"),
        (("recompute", "tiny-0.1m", "--kernel", "flash"), "'flash' is not a kernel"),
        (("recompute", "tiny-0.1m", "--plot", "a"), "cannot draw a file without ending"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(arguments: tuple[str, ...], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        CliRunner().invoke(APP, arguments, catch_exceptions=False)


def test_too_few_rows_are_named(rows: str) -> None:
    with pytest.raises(UsageError, match="holds 24 rows; 16 are measured on"):
        CliRunner().invoke(APP, ("precision", "tiny-0.1m", "--data", rows), catch_exceptions=False)
