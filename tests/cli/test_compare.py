"""The commands compare, power and looks: what they print, and how they end."""

import json
import sys

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluation.compare.made import side
from trimpot.cli import compare as commands
from trimpot.core.errors import UsageError
from trimpot.store.outcomes import write_outcomes


@pytest.fixture
def app():
    app = typer.Typer()
    app.command()(commands.compare)
    app.command()(commands.power)
    app.command()(commands.looks)
    return app


@pytest.fixture
def files(tmp_path):
    slices = {"slices": lambda i: {"size": "sl"[i % 2]}, "tokens": 5, "confidence": 0.6}
    a = [float(i % 3 == 0) for i in range(300)]
    b = [1.0 if i < 60 else value for i, value in enumerate(a)]
    for name, scores in (("base", a), ("sft", b), ("again", a)):
        folder = tmp_path / "run" / name
        folder.mkdir(parents=True)
        write_outcomes(folder / "outcomes.parquet", side(scores, "new" if name == "sft" else "old", **slices))
    return tmp_path / "run"


def run(app, *arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_table_with_a_verdict_for_every_slice(app, files):
    result = run(app, "compare", files / "base", files / "sft", "--noise", files / "again")
    assert result.exit_code == 0, result.output
    for text in (
        "size=s",
        "size=l",
        "better",
        "Positive: B is better",
        "A/A floor",
        "p (holm)",
        "seeds: one training seed",
    ):
        assert text in result.stdout
    assert "+40 −0" in result.stdout


def test_one_json_object(app, files):
    result = run(app, "compare", files / "base", files / "sft", "--json", "--correction", "bh", "--margin", 0.05)
    found = json.loads(result.stdout)
    assert found["settings"]["correction"] == "bh"
    assert found["settings"]["margin"] == 0.05
    first = found["rows"][0]
    assert (first["kind"], first["verdict"], first["paired"], first["gained"]) == ("all", "better", 300, 40)
    assert first["difference"] == pytest.approx(40 / 300)
    assert found["gate"] is None


def test_only_one_slice(app, files):
    found = json.loads(run(app, "compare", files / "base", files / "sft", "--slice", "size", "--json").stdout)
    assert [(row["name"], row["value"]) for row in found["rows"]] == [("", ""), ("size", "l"), ("size", "s")]


def gate(path, text):
    path.write_text(text)
    return path


def test_a_gate_passes_with_0_and_fails_with_1_and_its_reason(app, files, tmp_path):
    good = gate(tmp_path / "good.yaml", "rules: [{non_inferior: {margin: 0.02}}]")
    passed = run(app, "compare", files / "base", files / "sft", "--gate", good)
    assert passed.exit_code == 0
    assert "gate: passed" in passed.stdout
    failed = run(app, "compare", files / "sft", files / "base", "--gate", good)
    assert failed.exit_code == 1
    assert "trimpot: gate: non_inferior fails: all items: improvement -0.1333" in failed.stderr
    as_json = run(app, "compare", files / "sft", files / "base", "--gate", good, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["gate"]["passed"] is False


def test_a_gate_that_cannot_tell_never_passes_in_silence(app, files, tmp_path):
    unsure = gate(tmp_path / "unsure.yaml", "rules: [{equivalent: {margin: 0.13}}]")
    failed = run(app, "compare", files / "base", files / "sft", "--gate", unsure)
    assert failed.exit_code == 1
    assert "trimpot: gate: equivalent cannot tell: all items" in failed.stderr
    warned = gate(tmp_path / "warn.yaml", "unsure: warn\nrules: [{equivalent: {margin: 0.13}}]")
    result = run(app, "compare", files / "base", files / "sft", "--gate", warned)
    assert result.exit_code == 0
    assert "warn equivalent cannot tell: all items" in result.stdout
    assert (
        json.loads(run(app, "compare", files / "base", files / "sft", "--gate", warned, "--json").stdout)["gate"][
            "rules"
        ][0]["answer"]
        == "cannot tell"
    )


def test_the_gate_sets_the_comparison_and_options_go_before_it(app, files, tmp_path):
    file = gate(tmp_path / "g.yaml", "compare: {correction: bh, margin: 0.04}\nrules: [{superior: {}}]")
    found = json.loads(run(app, "compare", files / "base", files / "sft", "--gate", file, "--json").stdout)
    assert (found["settings"]["correction"], found["settings"]["margin"]) == ("bh", 0.04)
    found = json.loads(
        run(app, "compare", files / "base", files / "sft", "--gate", file, "--margin", 0, "--json").stdout
    )
    assert found["settings"]["margin"] == 0


def test_an_unusable_gate_and_missing_outcomes_are_usage_errors(app, files, tmp_path):
    bad = gate(tmp_path / "bad.yaml", "rules: [{non_inferor: {}}]")
    for arguments in ((files / "base", files / "sft", "--gate", bad), (files / "base", "smollm2-135m"), (files, files)):
        assert isinstance(run(app, "compare", *arguments).exception, UsageError)


def test_three_points_need_969_items(app):
    result = run(app, "power")
    assert "969" in result.stdout
    found = json.loads(run(app, "power", "--effect", 0.03, "--json").stdout)
    assert (found["items"], found["effect"], found["seeds_at_least"]) == (969, 0.03, None)
    assert [row["effect"] for row in found["table"]] == [0.01, 0.02, 0.03, 0.05, 0.1]


def test_power_from_outcomes_clusters_and_seeds(app, files):
    found = json.loads(run(app, "power", "--outcomes", f"{files}/base,{files}/sft", "--json").stdout)
    assert found["plan"]["sd_from"].startswith("measured")
    # 40 of 300 differ by 1: √(40/300·260/299).
    assert found["plan"]["sd"] == pytest.approx((40 / 300 * 260 / 299) ** 0.5)
    few = json.loads(run(app, "power", "--clusters", 20, "--icc", 0.1, "--effect", 0.05, "--json").stdout)
    assert few["items"] is None
    seeds = run(app, "power", "--seeds", 4, "--seed-sd", 0.01)
    assert "SD 0.01 over seeds" in seeds.stdout


def test_power_refuses_what_makes_no_plan(app, files):
    for arguments in (
        ("--effect", 0), ("--sd", 0), ("--icc", 0.1), ("--clusters", 9), ("--sd", 1, "--outcomes", files / "base"),
    ):  # fmt: skip
        assert isinstance(run(app, "power", *arguments).exception, UsageError), arguments


def test_looks_print_the_published_boundaries(app):
    result = run(app, "looks", 5)
    for text in ("4.8769", "2.6803", "2.2898", "2.0310", "looks: 5"):
        assert text in result.stdout
    found = json.loads(run(app, "looks", 5, "--spending", "pocock", "--json").stdout)
    assert found["looks"][0]["boundary"] == pytest.approx(2.438, abs=1e-3)
    assert isinstance(run(app, "looks", 5, "--spending", "x").exception, UsageError)


def test_comparing_imports_no_torch(files):
    import subprocess

    code = (
        "import sys; from trimpot.evaluation.compare.compare import compare_frames;"
        "from trimpot.evaluation.compare.files import frames_of; import trimpot.evaluation.compare.gate;"
        f"compare_frames(frames_of('{files}/base'), frames_of('{files}/sft')); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
