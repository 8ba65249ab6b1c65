"""The command: exit status, one JSON object, one line for bad input."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tests.doctor import logs
from trimpot.cli.doctor import doctor
from trimpot.core.errors import UsageError


@pytest.fixture(scope="module")
def command():
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(doctor)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_fault_is_told_and_strict_fails(command, tmp_path):
    path = logs.state(tmp_path / "trainer_state.json")
    done = command(path)
    assert done.exit_code == 0
    assert "1. loss_spike:" in done.stdout
    assert command(path, "--strict").exit_code == 1
    healthy = logs.state(tmp_path / "checkpoint-1" / "trainer_state.json", logs.rows()[: logs.SPIKE - 1])
    done = command(healthy, "--strict")
    assert done.exit_code == 0
    assert "healthy as far as 3 detectors can see" in done.stdout


def test_json_is_one_object_without_nan_of_its_own(command, tmp_path):
    done = command(logs.state(tmp_path / "trainer_state.json"), "--json", "--html", tmp_path / "page.html")
    result = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(name))
    (run,) = result["runs"]
    assert run["verdict"] == "findings"
    assert run["findings"][0]["finding"]["detector"] == "loss_spike"
    assert 0 < run["findings"][0]["score"] < 1
    assert {"checked", "not_checked", "other_kinds", "notes", "names"} <= run.keys()
    assert (tmp_path / "page.html").exists()


def test_bad_input_is_a_usage_error(command, tmp_path):
    done = command(tmp_path / "none.csv")
    assert isinstance(done.exception, UsageError)
    done = command(logs.state(tmp_path / "trainer_state.json"), "--beta", "-1")
    assert isinstance(done.exception, UsageError)
    assert "--beta" in str(done.exception)
