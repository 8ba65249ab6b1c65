"""The commands source and claim in both forms: text for people, one JSON object for programs."""

import json

import pytest
import typer
from typer.testing import CliRunner

from trimpot.cli import sources
from trimpot.core.errors import UsageError
from trimpot.knobs.evidence import SHIPPED, read_evidence
from trimpot.knobs.library import library
from trimpot.knobs.status import WORDS

app = typer.Typer()
app.command()(sources.source)
app.command()(sources.claim)


@pytest.fixture(autouse=True)
def only_shipped_evidence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def run(*arguments):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_all_sources_in_both_forms():
    text = run("source")
    assert "1 Post-training" in text
    assert "dsel Data Selection for Language Models [mislabelled]: ST-MoE" in text
    found = json.loads(run("source", "--json"))
    assert len(found["reading_list"]) == 29
    assert found["flagged"] >= 12


def test_one_source_in_both_forms():
    text = run("source", "gns")
    assert "arxiv.org/abs/1812.06162" in text
    assert "knobs: optimizer.batch_size" in text
    assert "The gradient noise scale grows as the loss falls." in text
    found = json.loads(run("source", "dpo", "--json"))
    assert found["studies"]["dpo-beta"]["dpo-larger-beta-stays-closer"] == "confirmed"


def test_all_claims_in_both_forms():
    text = run("claim")
    for word in ("confirmed", "refuted", "inconclusive", "cited, untested", "cited, untestable here"):
        assert f"\n{word}: " in "\n" + text
    assert text.splitlines()[-1].startswith(f"{len(library().claims)} claims: ")
    found = json.loads(run("claim", "--json"))
    assert len(found["claims"]) >= 60
    assert list(found["statuses"]) == list(WORDS)
    assert sum(found["statuses"].values()) == len(found["claims"])
    assert len(found["disagreements"]) == len(library().disagreements)


def test_one_claim_in_both_forms():
    text = run("claim", "dpo-small-beta-degenerates")
    assert "inconclusive (shipped):" in text
    tested = read_evidence(SHIPPED / "dpo-beta.json").tested["dpo-small-beta-degenerates"]
    assert f"could see {tested.smallest_effect:.2g}" in text
    found = json.loads(run("claim", "dpo-larger-beta-moves-further", "--json"))
    assert found["status"] == "refuted"
    assert found["evidence"][0]["conditions"]["model"] == "tiny-0.1m"
    assert found["disagreements"] == ["beta-direction"]


def test_disagreements_in_both_forms():
    text = run("claim", "--disagreements")
    assert "grpo-kl: Does GRPO need a KL term?" in text
    assert text.count("decides: ") == len(library().disagreements)
    found = json.loads(run("claim", "--disagreements", "--json"))["disagreements"]
    assert {one["id"] for one in found} == set(library().disagreements)
    only = json.loads(run("claim", "large-batch-generalises-worse", "--disagreements", "--json"))["disagreements"]
    assert [one["id"] for one in only] == ["large-batches"]
    assert "is on no side of a disagreement" in run("claim", "pile-effective-size", "--disagreements")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("source", "gnss"), "Did you mean 'gns'"),
        (("claim", "dpo-chosen-fall"), "Did you mean 'dpo-chosen-falls'"),
        (("claim", "dpo-chosen-fall", "--disagreements"), "Did you mean 'dpo-chosen-falls'"),
    ],
)
def test_an_unknown_name_is_a_usage_error_that_names_the_nearest(arguments, words):
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UsageError)
    assert words in str(done.exception)
