"""The commands on files, without weights: labels as the judge, and ratings, preference rows and logits."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluation.judges.cases import FunctionJudge, outcome
from tests.evaluation.scripted import ScriptedModel
from trimpot.cli import judge as command
from trimpot.core.errors import UsageError
from trimpot.store.outcomes import read_outcomes, write_outcomes

app = typer.Typer(pretty_exceptions_enable=False)
app.command("judge")(command.judge)
app.command("raters")(command.raters)


def run(*arguments):
    found = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(found.exception, UsageError):
        raise found.exception
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    answers = {
        "a": ["wrong", "wrong", "right"] * 8,
        "b": ["right", "right", "false"] * 8,
        "c": ["right", "other", "other"] * 8,
    }
    for name, said in answers.items():
        rows = [outcome(f"i{n}", text, model=name) for n, text in enumerate(said)]
        write_outcomes(tmp_path / name / "outcomes.parquet", rows)
    winners = [{"task": "t", "item": f"i{n}", "winner": "A" if n % 3 == 2 else "B"} for n in range(24)]
    write(tmp_path / "labels.jsonl", winners)
    return tmp_path


def test_people_judge_two_models_and_the_verdicts_become_outcomes(folder):
    labels = f"labels:{folder / 'labels.jsonl'}"
    found = run("judge", folder / "a", folder / "b", "--judge", labels, "--output", folder / "out", "--json")
    (report,) = json.loads(found.stdout)["reports"]
    assert report["win_rate"]["raw"]["value"] == pytest.approx(2 / 3)
    assert (report["counts"], report["bias"], report["baselines"]) == ({"ok": 24}, None, [])
    b = read_outcomes(folder / "out" / "b" / "outcomes.parquet")
    a = read_outcomes(folder / "out" / "a" / "outcomes.parquet")
    assert [one.score for one in b[:3]] == [1.0, 1.0, 0.0]
    assert [x.score + y.score for x, y in zip(a, b, strict=True)] == [1.0] * 24
    assert (a[0].weights, b[0].weights) == ("weights of a", "weights of b")
    assert json.loads((folder / "out" / "judge.json").read_text())["judge"] == f"labels of {folder / 'labels.jsonl'}"


def test_a_model_judges_three_models_and_rates_them(folder, monkeypatch):
    def score(context, letter):
        shown = context.split(f"[Answer {letter}]")[1].split("[End")[0]
        return 1.0 * ("right" in shown)

    monkeypatch.setattr("trimpot.cli.evaluate.open_model", lambda name: ScriptedModel(score=score))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("HOME", str(folder))
    models = [folder / name for name in "abc"]
    found = run("judge", *models, "--judge", "scripted", "--set", "probes=24", "--json")
    result = json.loads(found.stdout)
    assert [one["usable"] for one in result["reports"]] == [True] * 3
    assert [len(one["baselines"]) for one in result["reports"]] == [3] * 3
    best, *others = result["ratings"]
    # b gets two thirds from either (16 won and 8 lost, 8 won and 16 ties); a and c share their points.
    assert best["name"] == str(folder / "b")
    assert best["mean_win_rate"] == pytest.approx(2 / 3)
    assert others[0]["elo"]["value"] == pytest.approx(others[1]["elo"]["value"])
    shown = run("judge", *models, "--judge", "scripted", "--set", "probes=24").stdout
    assert "Bradley–Terry" in shown
    assert "depends on the models compared" in shown


def test_the_printed_report_says_unusable(folder, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def always_first(name, way, temperature):
        yield FunctionJudge(lambda question, draw: 1.0)

    monkeypatch.setattr(command, "_opened", always_first)
    shown = run("judge", folder / "a", folder / "b", "--judge", "x").stdout
    assert "UNUSABLE: constant answer: wins 50%" in shown
    assert "order conflicts: 100.0%" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a"], "judge: 1 set of outcomes given"),
        (["a", "a"], "the same outcomes are given twice"),
        (["a", "b", "--set", "probe=3"], "--set probe=3: 'probe' is no setting of a judge.*'probes'"),
        (["a", "b", "--set", "probes=many"], "--set probes: 'many' is not a whole number"),
        (["a", "b", "--set", "length_limit=3"], "--set length_limit: is 3"),
        (["a", "b", "--way", "spoken"], "--way: 'spoken' is unknown"),
        (["a", "b", "--temperature", "1"], "--temperature: plays no part"),
        (["a", "b", "--repeats", "3"], "repeats: labels of .* says the same each time"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=words) as caught:
        run("judge", *arguments, "--judge", "labels:labels.jsonl")
    assert "\n" not in str(caught.value)


def test_ratings_are_reported(tmp_path):
    rows = [{"item": n, "rater": r, "label": "ab"[(n + (r == "z")) % 2]} for n in range(6) for r in "xyz"]
    file = write(tmp_path / "ratings.jsonl", rows)
    result = json.loads(run("raters", file, "--json").stdout)
    assert result["pairs"]["x, y"]["value"] == 1.0
    assert result["pairs"]["x, z"]["value"] == pytest.approx(-1.0)
    shown = run("raters", file).stdout
    assert "Krippendorff's α" in shown
    assert "z: as the others on 0.0%" in shown
    with pytest.raises(UsageError, match="--mislabels needs preference rows"):
        run("raters", file, "--mislabels")


def test_preference_rows_get_rules_and_mislabels(tmp_path):
    rows = []
    for n in range(80):
        good, bad = f"precise careful number{n} honest", f"lazy vague item{n} nonsense and more of it"
        swapped = n in (7, 30)
        rows.append({"prompt": f"q{n}", "chosen": bad if swapped else good, "rejected": good if swapped else bad})
    file = write(tmp_path / "pairs.jsonl", rows)
    result = json.loads(run("raters", file, "--mislabels", "--json").stdout)
    assert not result["usable"]
    assert {one["row"] for one in result["mislabels"]["suspicious"]} == {f"{file}:8", f"{file}:31"}
    shown = run("raters", file, "--mislabels").stdout
    assert "UNUSABLE: longer: is wrong in all but 2%" in shown
    assert "2 of 80 rows fit the other label better" in shown


def test_logits_give_mislabels_and_unknown_rows_one_line(tmp_path):
    rows = [
        {"id": "one", "label": 0, "logits": [[0, 4]]},
        {"id": "two", "label": 1, "logits": [[0, 4]], "threshold": False},
        {"label": 1, "logits": [[0, 1]], "threshold": True},
    ]
    file = write(tmp_path / "logits.jsonl", rows)
    result = json.loads(run("raters", file, "--json").stdout)
    assert [one["row"] for one in result["suspicious"]] == ["one"]
    assert "1 of 2 rows" in run("raters", file).stdout
    with pytest.raises(UsageError, match=r"unknown form of row \(keys: a\)"):
        run("raters", write(tmp_path / "other.jsonl", [{"a": 1}]))
    with pytest.raises(UsageError, match="holds no rows"):
        run("raters", write(tmp_path / "empty.jsonl", []))
