"""Files of finished runs: which columns are taken, and the one line for what is missing."""

import json

import polars
import pytest

from trimpot.core.errors import UsageError
from trimpot.data.scaling_runs import read_runs

ROWS = [
    {"n_params": 1e6 * n, "train tokens": 1e8 * n, "val_loss": 3.0 / n, "run id": f"r{n % 2}"} for n in (1, 2, 3, 4)
]


@pytest.fixture
def write(tmp_path):
    def call(rows, ending):
        path = tmp_path / f"runs.{ending}"
        if ending == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif ending == "csv":
            polars.DataFrame(rows).write_csv(path)
        else:
            polars.DataFrame(rows).write_parquet(path)
        return str(path)

    return call


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_columns_are_recognised_by_their_names(write, ending):
    table = read_runs(write(ROWS, ending))
    assert table.columns == {"parameters": "n_params", "tokens": "train tokens", "loss": "val_loss", "run": "run id"}
    assert table.runs.parameters.tolist() == [1e6, 2e6, 3e6, 4e6]
    assert table.runs.compute.tolist() == pytest.approx([6e14 * n * n for n in (1, 2, 3, 4)])
    assert table.clusters == "run"
    assert table.runs.clusters.tolist() == [0, 1, 0, 1]


def test_rows_are_resampled_as_told(write):
    file = write(ROWS, "csv")
    assert read_runs(file, clusters="rows").runs.clusters.tolist() == [0, 1, 2, 3]
    assert read_runs(write([*ROWS, ROWS[0]], "jsonl"), clusters="size").runs.clusters.tolist() == [0, 1, 2, 3, 0]
    bare = [{"N": 1e6, "C": 6e14, "loss": 2.0}, {"N": 2e6, "C": 6e14, "loss": 1.9}]
    table = read_runs(write(bare, "parquet"))
    assert table.clusters == "rows"
    assert table.runs.tokens.tolist() == [1e8, 5e7]
    assert table.runs.notes == ("tokens are compute / (6 x parameters)",)


def test_a_column_can_be_named(write):
    rows = [{"loss_a": 2.0, "loss_b": 3.0, "N": 1e6}, {"loss_a": 1.9, "loss_b": 2.9, "N": 2e6}]
    assert read_runs(write(rows, "csv"), {"loss": "loss_b"}).runs.loss.tolist() == [3.0, 2.9]


@pytest.mark.parametrize(
    ("rows", "given", "text"),
    [
        ([{"N": 1e6, "x": 2.0}], {}, "runs.jsonl: has no column of the loss among N, x. Call it loss"),
        ([{"loss": 2.0, "x": 2.0}], {}, "runs.jsonl: has no column of parameters, tokens or compute"),
        ([{"N": 1e6, "loss": 2.0}, {"loss": 2.0}], {}, "runs.jsonl:2: has no N. Fill it in"),
        ([{"N": 1e6, "loss": 2.0}, {"N": None, "loss": 2.0}], {}, "runs.jsonl:2: has no N"),
        ([{"N": 1e6, "loss": "low"}], {}, "runs.jsonl:1: loss 'low' is not a number"),
        ([{"N": 1e6, "loss": True}], {}, "runs.jsonl:1: loss True is not a number"),
        ([{"N": 1e6, "loss": 2.0}, {"N": 1e6, "loss": -2.0}], {}, "runs.jsonl:2: loss is -2"),
        ([{"N": 1e6, "loss": float("inf")}], {}, "runs.jsonl:1: loss is inf"),
        ([{"N": 1e6, "val loss": 2.0, "eval_loss": 2.0}], {}, "has 2 columns for loss: val loss, eval_loss. Say which"),
        ([{"N": 1e6, "loss": 2.0}], {"loss": "los"}, "runs.jsonl: has no column 'los'. Did you mean 'loss'?"),
        ([{"N": 1e6, "loss": 2.0}], {"lss": "loss"}, "'lss' is no role of a column. Did you mean 'loss'?"),
        ([], {}, "runs.jsonl: holds no rows"),
    ],
)
def test_what_is_missing_is_named_in_one_line(write, rows, given, text):
    with pytest.raises(UsageError) as error:
        read_runs(write(rows, "jsonl"), given)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_the_exact_name_is_preferred(write):
    rows = [{"loss": 2.0, "eval_loss": 3.0, "N": 1e6}]
    assert read_runs(write(rows, "jsonl")).columns["loss"] == "loss"


def test_clusters_need_their_column(write):
    file = write([{"N": 1e6, "loss": 2.0}], "jsonl")
    with pytest.raises(UsageError, match="no column of run to resample by"):
        read_runs(file, clusters="run")
    with pytest.raises(UsageError, match="Did you mean 'rows'"):
        read_runs(file, clusters="row")
