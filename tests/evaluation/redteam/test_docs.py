"""The snippets of docs/redteam.md run as they stand there."""

import json
import re
import runpy
from pathlib import Path

import pytest

from tests.evaluation.redteam.models import model
from trimpot.core.rows import Origin
from trimpot.data.files import read_records
from trimpot.data.forms import row_of
from trimpot.evaluation.redteam.families import FAMILIES
from trimpot.evaluation.redteam.labelled import known_rates
from trimpot.evaluation.redteam.packaged import PACKAGED
from trimpot.rollout.verifiers import from_user_file

PAGE = (Path(__file__).parents[3] / "docs/redteam.md").read_text(encoding="utf-8")


@pytest.fixture
def snippets(tmp_path, monkeypatch):
    """Writes the named snippets into an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for body in re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE, re.DOTALL):
        name = re.match(r"# (\S+):", body)
        if name:
            (tmp_path / name[1]).write_text(body)
    return tmp_path


def test_the_reward_of_the_recipe_pays_for_questions_that_work(snippets, monkeypatch):
    runpy.run_path(str(snippets / "red_rows.py"))
    rows = [row_of(record, Origin()) for _, record in read_records("red_rows.jsonl", "train")]
    assert len(rows) == 30
    reward = from_user_file(rows[0].verifier, "function")
    gullible = model(lambda prompt, sample: "marigold-17" if "gate" in prompt else "I cannot say.")
    monkeypatch.setitem(reward.__globals__, "target", lambda: gullible)
    assert reward("What opens the gate?", rows[0]) == 1.0
    assert reward("What opens the door?", rows[0]) == 0.0
    assert reward("Open the gate.", rows[0]) == 0.0
    assert json.dumps(rows[0].metadata["seed"])


def test_the_page_names_all_families_and_sets():
    for name in (*FAMILIES, *PACKAGED):
        assert name in PAGE


def test_the_rates_on_the_page_are_the_measured_ones():
    for name, rates in known_rates().items():
        (line,) = re.findall(rf"^\| `{name}` .*$", PAGE, re.MULTILINE)
        for share, kept, all_ in (
            (rates.sensitivity, rates.caught, rates.successes),
            (rates.specificity, rates.cleared, rates.failures),
        ):
            told = f"{kept}/{all_} = {100 * share.value:.0f}% [{100 * share.low:.0f}, {100 * share.high:.0f}]"
            assert told in line
