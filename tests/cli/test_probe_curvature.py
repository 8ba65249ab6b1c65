"""The commands probe sharpness, hessian and health, called as a command line calls them."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from trimpot.cli.probe_curvature import health, hessian, sharpness
from trimpot.core.errors import UsageError

app = typer.Typer()
for command in (sharpness, hessian, health):
    app.command()(command)


def call(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def error_of(*arguments: str) -> str:
    found = call(*arguments).exception
    assert isinstance(found, UsageError)
    return str(found)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    chats = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "ab" * n}]}
        for n in range(1, 9)
    ]
    path.write_text("\n".join(json.dumps(chat) for chat in chats))
    return ("tiny-0.1m", "--data", str(path))


def test_sharpness_shows_every_measure_with_its_control(data):
    found = call("sharpness", *data, "--rows", "2", "--part", "layers.1.mlp")
    assert found.exit_code == 0, found.output
    for said in ("φ (Keskar):", "at ε 0.001, full space", "SAM:", "adaptive:", "control: φ", "becomes"):
        assert said in found.output


def test_sharpness_as_json_has_both_boxes_and_the_subspace_it_searched(data):
    options = ("--rows", "2", "--part", "layers.0.mlp", "--directions", "5", "--json")
    said = json.loads(call("sharpness", *data, *options).stdout)
    assert [one["epsilon"] for one in said["boxes"]] == [1e-3, 5e-4]
    assert [one["directions"] for one in said["boxes"]] == [5, 5]
    assert said["rows"] == 2
    assert said["controls"]["adaptive"]["ratio"] == pytest.approx(1, abs=1e-6)
    assert said["controls"]["phi"]["change"] < 1e-9


def test_hessian_has_both_ends_a_trace_and_the_limit_of_the_rate(data):
    options = ("--rows", "2", "--part", "layers.1.mlp.down_proj", "--vectors", "4", "--learning-rate", "0.5")
    said = json.loads(call("hessian", *data, *options, "--json").stdout)
    assert said["largest"]["largest"] > said["smallest"]["largest"]
    assert said["limit"] == 4.0
    assert said["trace"]["n"] == 4
    printed = call("hessian", *data, *options).output
    for words in ("largest:", "smallest:", "trace:", "2/η: 4;"):
        assert words in printed


def test_health_prints_what_steps_look_like_and_leaves_the_model_alone(data):
    found = call("health", *data, "--steps", "2", "--batch", "4")
    assert found.exit_code == 0, found.output
    for said in ("update_ratio:", "dead_units:", "gradient norms:", "layer_01"):
        assert said in found.output
    steps = json.loads(call("health", *data, "--steps", "2", "--batch", "4", "--json").stdout)["steps"]
    assert len(steps) == 2
    assert all(name.startswith("health/") for name in steps[0])


def test_a_stated_peak_takes_the_place_of_the_measured_one(data):
    stated = ("--steps", "1", "--batch", "4", "--peak-flops", "1e30", "--json")
    (step,) = json.loads(call("health", *data, *stated).stdout)["steps"]
    assert 0 < step["health/mfu"] < 1e-10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("sharpness", "--part", "layers.7"), "part 'layers.7': is in no trainable weight"),
        (("sharpness", "--mask", "al"), "--mask: 'al' is not a mask. Did you mean 'all'?"),
        (("hessian", "--learning-rate", "0"), "--learning-rate: 0.0 is not above 0"),
        (("health", "--learning-rate", "-1"), "--learning-rate: -1.0 is not above 0"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(data, options, said):
    message = error_of(options[0], *data, *options[1:])
    assert said in message
    assert "\n" not in message
