"""The commands scaling fit, split and constants: what they print, and how they end."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from trimpot.cli.scaling import app
from trimpot.core.errors import UsageError


def losses(parameters, tokens):
    return 1.2 + 40 / parameters**0.35 + 300 / tokens**0.4


@pytest.fixture
def runs(tmp_path):
    noise = np.random.default_rng(0)
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["n_params", "tokens", "eval_loss"])
        for parameters in np.geomspace(1e5, 1e7, 5):
            for tokens in np.geomspace(1e6, 1e9, 4):
                loss = losses(parameters, tokens) * np.exp(0.003 * noise.normal())
                table.writerow([parameters, tokens, loss])
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def refusal(*arguments):
    result = run(*arguments)
    assert isinstance(result.exception, UsageError), result.output
    text = str(result.exception)
    assert "\n" not in text
    return text


def test_a_fit_says_what_it_took_and_what_it_found(runs):
    result = run("fit", runs, "--bootstrap", 20, "--predict", "N=2e7,D=1e9", "--against", "chinchilla")
    assert result.exit_code == 0, result.output
    for text in (
        "20 rows; parameters from 'n_params', tokens from 'tokens', loss from 'eval_loss'; resamples rows one by one",
        "law: L = E + A/N^alpha + B/D^beta, fitted to 20 runs",
        "E: 1.",
        "typical error: 0.",
        "compute is 6 x parameters x tokens",
        "at N 2e+07, D 1e+09, C 1.2e+17: loss 1.",
        "chinchilla: inside the intervals: ",
    ):
        assert text in result.stdout


def test_one_json_object_with_the_largest_held_out(runs, tmp_path):
    picture = tmp_path / "charts" / "law.svg"
    result = run("fit", runs, "--bootstrap", 30, "--hold-out", "size", "--plot", picture, "--json",
                 "--predict", "parameters=3e6,compute=1.8e16")  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["fit"]["runs"] == 16
    assert set(found["fit"]["constants"]) == {"E", "A", "B", "alpha", "beta"}
    floor = found["fit"]["constants"]["E"]
    assert floor["low"] < floor["value"] < floor["high"]
    assert floor["value"] == pytest.approx(1.2, abs=0.05)
    held = found["held_out"]
    assert [row["row"].rsplit(":", 1)[1] for row in held] == ["18", "19", "20", "21"]
    assert [row["largest"] for row in held] == [False, False, False, True]
    for row in held:
        assert row["error"] == pytest.approx(row["predicted"]["value"] / row["loss"] - 1)
        assert row["inside"] == (row["predicted"]["low"] <= row["loss"] <= row["predicted"]["high"])
    assert max(abs(row["error"]) for row in held) < 0.02
    assert found["predicted"][0]["point"]["tokens"] == pytest.approx(1e9)
    assert found["predicted"][0]["loss"]["value"] == pytest.approx(losses(3e6, 1e9), rel=0.02)
    assert found["chart"] == str(picture)
    drawn = picture.read_text()
    assert "held out" in drawn
    assert "D, tokens" in drawn


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_law_of_one_variable_is_drawn_too(runs, tmp_path, ending):
    picture = tmp_path / f"law.{ending}"
    result = run("fit", runs, "--form", "kaplan-compute", "--bootstrap", 0, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes()[:4] == (b"\x89PNG" if ending == "png" else b"<svg")


def test_far_predictions_need_the_flag(runs):
    arguments = ["fit", runs, "--bootstrap", 0, "--predict", "N=1e9,D=1e9"]
    assert "100 times above the largest of the fitted runs" in refusal(*arguments)
    result = run(*arguments, "--beyond")
    assert result.exit_code == 0, result.output
    assert f"loss {losses(1e9, 1e9):.2f}"[:-1] in result.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--predict", "N=1e6"], "form chinchilla: needs tokens to predict"),
        (["--predict", "N1e6"], "'N1e6' is not NAME=NUMBER"),
        (["--predict", "M=1e6,D=1"], "'M' is no variable"),
        (["--predict", "N=large,D=1"], "'large' is not a number"),
        (["--predict", "N=-1,D=1"], "parameters: is -1. Give a number above 0"),
        (["--form", "chinchila"], "Did you mean 'chinchilla'?"),
        (["--hold-out", "sise"], "Did you mean 'size'?"),
        (["--against", "kaplan"], "Compare laws of one form"),
        (["--against", "kaplam"], "are no published set"),
        (["--column", "loss"], "is not ROLE=COLUMN"),
        (["--column", "loss=los"], "has no column 'los'"),
        (["--cluster", "run"], "no column of run to resample by"),
        (["--plot", "law.pdf"], "cannot draw a .pdf"),
    ],
)
def test_bad_input_ends_in_one_line(runs, options, text):
    assert text in refusal("fit", runs, "--bootstrap", 0, *options)


def test_a_missing_cell_is_named_by_its_line(runs):
    lines = runs.read_text().splitlines()
    lines[6] = lines[6].rpartition(",")[0] + ","
    runs.write_text("\n".join(lines) + "\n")
    assert "runs.csv:7: has no eval_loss" in refusal("fit", runs)


def test_columns_and_clusters_can_be_given(runs):
    result = run("fit", runs, "--bootstrap", 5, "--column", "loss=eval_loss", "--cluster", "size", "--json")
    found = json.loads(result.stdout)
    assert found["cluster"] == "size"
    assert found["fit"]["clusters"] == 5


def test_a_split_by_published_constants():
    result = run("split", "5.76e23", "--constants", "chinchilla-refit", "--json")
    found = json.loads(result.stdout)
    assert found["tokens_per_parameter"]["value"] == pytest.approx(18.4, abs=0.1)
    assert found["parameters"]["value"] * found["tokens"]["value"] * 6 == pytest.approx(5.76e23)
    assert found["tokens"]["low"] is None
    assert "tokens per parameter: 92.65" in run("split", "5.76e23", "--constants", "chinchilla").stdout
    assert "above the largest of the runs of chinchilla" in refusal("split", "1e30", "--constants", "chinchilla")
    assert run("split", "1e30", "--constants", "chinchilla", "--beyond").exit_code == 0
    assert "has no best split" in refusal("split", "1e20", "--constants", "kaplan-tokens")
    assert "takes one of --constants and --runs" in refusal("split", "1e20")


def test_a_split_by_ones_own_runs(runs):
    result = run("split", "1e16", "--runs", runs, "--bootstrap", 20, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    # 0.4 / (0.35 + 0.4) = 0.533
    assert found["parameters_exponent"]["low"] < 0.533 < found["parameters_exponent"]["high"]


def test_the_published_sets_are_listed_whole():
    found = json.loads(run("constants", "--json").stdout)
    names = [one["name"] for one in found["sets"]]
    assert {"kaplan", "kaplan-parameters", "chinchilla", "chinchilla-refit"} <= set(names)
    assert found["critical_batch"]["tokens"] == 2e8
    text = run("constants").stdout
    assert "E 1.8172, A 482.01, B 2085.43, alpha 0.3478, beta 0.3658" in text
    assert "N_c 6.4e+13, D_c 1.8e+13, alpha_N 0.076, alpha_D 0.103" in text
    assert "critical batch: B_crit = 2e+08 / L^(1/0.21) tokens" in text
    assert [one["name"] for one in json.loads(run("constants", "kaplan", "--json").stdout)["sets"]] == ["kaplan"]
    assert "Did you mean 'kaplan'?" in refusal("constants", "kaplam")
