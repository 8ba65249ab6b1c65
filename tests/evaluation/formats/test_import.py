import json

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluation.formats.test_inspect_log import log, sample, write_json, write_zip
from tests.evaluation.formats.test_lm_eval_samples import choice, generation, write
from trimpot.cli.imports import import_logs
from trimpot.core.errors import UsageError
from trimpot.evaluation.formats.detect import read_log, read_logs
from trimpot.store.outcomes import read_outcomes

app = typer.Typer()
app.command("import")(import_logs)


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_formats_are_told_by_content_not_by_name(tmp_path):
    paths = [
        write(tmp_path, choice(), name="a.txt"),
        write_zip(tmp_path / "b.txt", log([sample()])),
        write_json(tmp_path / "c.txt", log([sample()])),
    ]
    assert [read_log(path).format for path in paths] == ["lm-eval samples", "inspect log", "inspect log"]
    pretty = tmp_path / "d.json"
    pretty.write_text(json.dumps(log([sample()]), indent=2))
    assert read_log(pretty).format == "inspect log"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no log that is known"),
        ("hello", "is no log that is known"),
        ("[1]", "is no log that is known"),
        ('{"a": 1}', "is no log that is known"),
        ('{"results": {}, "configs": {}}', "holds lm-eval's averages, not its samples"),
        ("\x00\x01", "is no log that is known"),
    ],
)
def test_another_file_is_one_line(tmp_path, content, words):
    (tmp_path / "file.bin").write_text(content)
    with pytest.raises(UsageError, match=words):
        read_log(tmp_path / "file.bin")
    with pytest.raises(UsageError, match="there is no such file"):
        read_log(tmp_path / "none.json")
    with pytest.raises(UsageError, match="is no file"):
        read_log(tmp_path)


def test_one_log_twice_is_refused(tmp_path):
    first = write_json(tmp_path / "a.json", log([sample()]))
    second = write_zip(tmp_path / "b.eval", log([sample()]))
    with pytest.raises(UsageError, match=r"b.eval: task sums of run run-1 is in .*a.json too"):
        read_logs([first, second])


def test_the_command_writes_outcomes_and_prints_tasks_and_statuses(tmp_path):
    files = [
        write(tmp_path, generation(0), generation(1, "[invalid]", exact_match=0.0)),
        write_zip(tmp_path / "b.eval", log([sample(1), sample(2, value=float("nan"))], eval={"task": "other"})),
    ]
    output = tmp_path / "outcomes.parquet"
    shown = run(*files, "--output", output, "--json")
    assert shown.exit_code == 0
    told = json.loads(shown.stdout)
    assert told["n"] == 4
    assert told["tasks"]["sums"] == {
        "n": 2,
        "items": 2,
        "statuses": {"ok": 1, "parse_failed": 1, "error": 0, "unscored": 0},
        "mean": 0.5,
    }
    assert told["tasks"]["other"]["statuses"]["unscored"] == 1
    assert told["tasks"]["other"]["mean"] == 1.0
    kept = read_outcomes(output)
    assert [one.status for one in kept] == ["ok", "parse_failed", "ok", "unscored"]


def test_the_command_prints_lines_and_what_it_left_out(tmp_path):
    shown = run(write(tmp_path, choice()), "--output", tmp_path / "new" / "o.parquet", "--slice", "topic")
    assert "1 outcomes of 1 items: 1 ok; mean score 1" in shown.stdout
    assert "acc_norm was not imported" in shown.stdout
    assert read_outcomes(tmp_path / "new" / "o.parquet")[0].slices == {"topic": "sum"}


def test_the_command_overwrites_nothing_and_writes_nothing_of_a_bad_file(tmp_path):
    output = tmp_path / "o.parquet"
    bad = run(write(tmp_path, choice(), {}), "--output", output)
    assert isinstance(bad.exception, UsageError)
    assert not output.exists()
    good = write(tmp_path, choice())
    assert run(good, "--output", output).exit_code == 0
    before = output.read_bytes()
    assert isinstance(run(good, "--output", output).exception, UsageError)
    assert output.read_bytes() == before
