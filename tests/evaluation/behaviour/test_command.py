"""``trimpot behaviour`` as a user calls it, on a model that is a script."""

import json

import pytest
import typer
import yaml
from typer.testing import CliRunner

from tests.evaluation.scripted import ScriptedModel
from trimpot.cli import behaviour as command
from trimpot.core.errors import UsageError
from trimpot.evaluation.behaviour.read import read_suite
from trimpot.evaluation.behaviour.run import run_suite
from trimpot.store.outcomes import read_outcomes

TEST = {"name": "a", "capability": "logic", "type": "MFT", "template": "Is {name} {a:profession}?", "answer": "yes_no",
        "label": "yes", "cases": 8}  # fmt: skip


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls the command with scripted models: ``yes`` says yes to all, ``no`` no, ``real/x`` nothing readable."""
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"name": "own", "tests": [TEST]}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said = {"yes": "Yes", "no": "No", "real/x": "Hm"}
    asked = []

    def open_model(name):
        model = ScriptedModel(lambda prompt, sample: said[name], name=name)
        asked.append(model)
        return model

    monkeypatch.setattr("trimpot.cli.evaluate.open_model", open_model)
    monkeypatch.setattr("trimpot.cli.evaluate.check_model", lambda name: None)
    app = typer.Typer()
    app.command()(command.behaviour)

    def make(*arguments):
        found = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert found.exit_code == 0
        return found.stdout

    make.asked = asked
    return make


def test_one_model(call):
    text = call("no", "--suite", "own.yaml")
    assert "8 of 8 failed = 100% [68, 100]" in text
    assert "→ “No”, right is “yes”" in text
    assert "no: 0 passed, 8 failed, 0 unparsed, 0 filtered" in text


def test_two_models_in_json_alone_on_standard_output(call):
    found = json.loads(call("yes", "no", "--suite", "own.yaml", "--json"))
    assert found["suite"] == "own"
    assert [(cell["checkpoint"], cell["failed"]) for cell in found["matrix"]] == [("yes", 0), ("no", 8)]
    (comparison,) = found["comparisons"]
    assert (comparison["new"], comparison["before"], comparison["tests"][0]["word"]) == ("no", "yes", "worse")


def test_two_models_in_lines(call):
    text = call("yes", "real/x", "--suite", "own.yaml")
    assert "real/x against yes (Holm over 1 tests)" in text
    assert (
        "worse: gained 0, lost 8 of 8, -100 points [-100, -100], p 0.008; without a readable answer 8, before 0" in text
    )


def test_fewer_cases_likelihood_and_outcomes(call, tmp_path):
    call("real/x", "--suite", "own.yaml", "--cases", "3", "--likelihood", "--plain", "--output", "out")
    outcomes = read_outcomes(tmp_path / "out" / "real-x.parquet")
    assert [one.task for one in outcomes] == ["behaviour/logic/MFT/a"] * 3
    (model,) = call.asked
    assert len(model.pairs) == 6
    assert {continuation for _, continuation in model.pairs} == {" Yes", " No"}
    assert all(prompt.endswith("\nAnswer:") for prompt, _ in model.pairs)


def test_answers_are_kept_and_asked_once_over_runs(call):
    first = call("no", "--suite", "own.yaml", "--json")
    again = call("no", "--suite", "own.yaml", "--json")
    assert [len(model.requests) for model in call.asked] == [8, 0]
    assert json.loads(first)["matrix"] == json.loads(again)["matrix"]
    call("no", "--suite", "own.yaml", "--no-cache")
    assert len(call.asked[-1].requests) == 8


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["no", "no", "--suite", "own.yaml"], "behaviour: a model is given twice"),
        (["no", "--suite", "other.yaml"], "other.yaml: there is no such suite"),
        (["no", "--suite", "own.yaml", "--output", "own.yaml"], "own.yaml: is not a folder"),
    ],
)
def test_bad_input_is_one_line(call, arguments, line):
    with pytest.raises(UsageError, match=line):
        call(*arguments)


@pytest.mark.slow
def test_the_core_suite_on_the_real_model():
    from trimpot.evaluation.behaviour.read import Reading
    from trimpot.evaluation.local import LocalModel
    from trimpot.models.load import load

    suite = read_suite("core", Reading(cases=2))
    run = run_suite(LocalModel(load("smollm2-135m")), suite)
    verdicts = [result.verdict for result in run.results]
    assert len(verdicts) == 2 * len(suite.tests)
    # It reads and writes English, and is far from right: both have to show.
    assert verdicts.count("passed") > 20
    assert verdicts.count("failed") > 20
    by_choice = [result for result in run.results if result.test.asking.by == "likelihood"]
    assert all(answer.parsed for result in by_choice for answer in result.answers)
    assert all(value < 0 for result in by_choice for answer in result.answers for value in answer.logprobs.values())
