"""The commands topic and card new, as a user calls them. Evidence here is constructed."""

import json

import pytest
from typer.testing import CliRunner

from trimpot.cli import topics as commands
from trimpot.cli.main import app
from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import ClaimTest, Conditions, Evidence, user_folder, write_evidence
from trimpot.knobs.library import library
from trimpot.knobs.own import known_library, own_folder
from trimpot.knobs.quiz import kept_predictions, predictions_file, questions
from trimpot.knobs.schema import TOPICS

CLOSER = "dpo-larger-beta-stays-closer"
NEW = (
    "card", "new", "my-paper", "--title", "A constructed paper", "--address", "example.org/1",
    "--knob", "preference.beta", "--claim", "A larger β lowers accuracy.",
    "--metric", "accuracy", "--direction", "down",
)  # fmt: skip


def run(*arguments, input=None):
    done = CliRunner().invoke(app, arguments, input=input)
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.fixture
def yours():
    """The user's own evidence of one study: an effect above 0 that refutes the claim."""
    tested = ClaimTest(library().claims[CLOSER].statement, "a slope", Estimate(0.5, 0.25, 0.75, 3, "t"), 0.01, 0.1,
                       "refuted")  # fmt: skip
    evidence = Evidence(
        study="dpo-beta", question="What does β do?", plan_hash="c" * 16, seeds=(1, 2, 3), arms={}, results={},
        failed=(), tested={CLOSER: tested}, control=None,
        conditions=Conditions("toy", "constructed", "quick", {}, {}, None, "2026-12-01", 1.0),
    )  # fmt: skip
    write_evidence(evidence, user_folder())


def test_all_topics_and_one_in_both_forms():
    text = run("topic")
    assert all(f"{number} {title}" in text for number, title in TOPICS.items())
    assert text.count("What knob does this give me?") == 8
    found = json.loads(run("topic", "--json"))["topics"]
    assert [one["number"] for one in found] == list(TOPICS)
    assert {"knob", "fails", "metric"} == found[0]["answers"].keys()
    assert run("topic", "3") == run("topic", "evaluation")
    assert json.loads(run("topic", "reading", "--json"))["core"]["reachable"] is False


def test_an_unknown_topic_names_the_nearest():
    done = CliRunner().invoke(app, ["topic", "evalution"])
    assert isinstance(done.exception, UsageError)
    assert "Did you mean 'evaluation'" in str(done.exception)


def test_a_quiz_keeps_the_prediction_and_then_shows_what_was_measured(yours):
    text = run("topic", "post-training", "--quiz", input="maybe\nf\nq\n")
    assert "'maybe' is none of the three" in text
    asked, _, answered = text.partition("Measured: rises (+0.5 [+0.25, +0.75]")
    assert "a slope" in asked
    assert library().claims[CLOSER].statement not in asked
    assert f"refuted: {library().claims[CLOSER].statement}" in answered
    assert "You said falls: not what was measured." in answered
    assert "Score: 0 of 1 right." in answered
    assert f"1 kept in {predictions_file()}, 0 right" in answered.splitlines()[-1]
    (record,) = kept_predictions()
    assert (record["claim"], record["prediction"], record["measured"]) == (CLOSER, "falls", "rises")


def test_what_was_answered_is_not_asked_again(yours):
    count = len(questions(known_library()))
    run("topic", "--quiz", input="r\n" * (count + 3))
    assert len(kept_predictions()) == count
    text = run("topic", "--quiz", input="r\n")
    assert "you have seen every measured answer here" in text
    assert f"of {count} right" in text
    assert len(kept_predictions()) == count


def test_the_end_of_input_ends_a_quiz_in_one_line(yours):
    text = run("topic", "--quiz", input="r\n")
    assert text.splitlines()[-1].startswith("quiz: 1 kept in ")
    found = run("topic", "--quiz", "--json", input="")
    answer = json.loads(found)
    assert answer["predictions"] == []
    assert answer["score_of_all"]["predictions"] == 1
    assert answer["left"] == len(questions(known_library())) - 1


def test_json_of_a_quiz_is_one_object_with_the_records(yours):
    answer = json.loads(run("topic", "--quiz", "--json", input="r\n"))
    assert answer["predictions"] == kept_predictions()
    assert answer["score"]["predictions"] == 1


def test_a_quiz_stopped_from_the_keyboard_says_what_was_kept(yours, monkeypatch):
    asked = []

    def ask(question, place, made, quiet):
        if asked:
            raise KeyboardInterrupt
        asked.append(question)
        made.append(question.record("rises"))
        return True

    monkeypatch.setattr(commands, "_ask", ask)
    done = CliRunner().invoke(app, ["topic", "--quiz"])
    assert done.exit_code == 130
    assert done.stdout.splitlines()[-1].startswith("quiz: 1 kept in ")
    assert "Traceback" not in done.output


def test_a_topic_without_evidence_has_no_quiz():
    known = library()
    empty = next(one for one in known.topics.values() if not questions(known, one))
    assert run("topic", empty.id, "--quiz", input="r\n") == "quiz: nothing is measured here yet: trimpot study\n"
    assert not predictions_file().exists()


def test_a_card_of_ones_own_is_made_listed_and_checked():
    text = run(*NEW)
    assert f"written: {own_folder() / 'my-paper' / 'claim.yaml'}" in text
    assert "study: trimpot study new RECIPE --arms preference.beta=0.03,0.1,0.3" in text
    listed = run("card")
    assert "  my-paper (yours) TODO" in listed
    assert listed.index("1 Post-training") < listed.index("  dpo.beta ") < listed.index("2 Training dynamics")
    assert run("source").splitlines()[-2] == "Yours "
    assert "A larger β lowers accuracy. (my-paper) [my-paper]" in run("claim").partition("Yours")[2]
    assert run("card", "my-paper").startswith("my-paper: what knob is it?")
    assert json.loads(run("card", "--json"))["cards"]["my-paper"]["yours"] is True
    done = CliRunner().invoke(app, ["card", "--check", "--json"])
    assert done.exit_code == 1
    problems = json.loads(done.stdout)["problems"]
    assert f"{own_folder() / 'my-paper' / 'card.yaml'}: what: is still TODO" in problems
    assert all("my-paper" in problem for problem in problems)
    again = CliRunner().invoke(app, list(NEW))
    assert isinstance(again.exception, UsageError)
    assert "exists already" in str(again.exception)


def test_an_unreadable_file_of_ones_own_does_not_hide_the_rest():
    run(*NEW)
    (own_folder() / "my-paper" / "claim.yaml").write_text("id: [")
    listed = run("card")
    assert "  dpo.beta " in listed
    assert listed.splitlines()[-1] == "yours: 1 files cannot be read: trimpot card --check"


def test_card_new_in_json():
    found = json.loads(run(*NEW, "--json"))
    assert [path.rpartition("/")[2] for path in found["files"]] == [
        "source.yaml",
        "claim.yaml",
        "card.yaml",
        "study.yaml",
    ]


def test_what_is_missing_is_one_line_where_nobody_can_be_asked():
    done = CliRunner().invoke(app, ["card", "new", "my-paper", "--title", "t", "--knob", "preference.beta"])
    assert isinstance(done.exception, UsageError)
    assert "--address, --claim, --metric, --direction missing" in str(done.exception)
    assert not own_folder().exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--knob", "preference.betta", "Did you mean"),
        ("--direction", "sideways", "'sideways' is no direction"),
        ("--claim", " ", "--claim: is empty"),
    ],
)
def test_what_cannot_be_read_writes_nothing(option, value, words):
    given = list(NEW)
    given[given.index(option) + 1] = value
    done = CliRunner().invoke(app, given)
    assert isinstance(done.exception, UsageError)
    assert words in str(done.exception)
    assert not own_folder().exists()


def test_on_a_terminal_what_is_missing_is_asked_until_it_can_be_read(monkeypatch):
    answers = iter(["A title", "example.org", "preference.betta", "preference.beta", "It falls.", "accuracy", "down"])
    monkeypatch.setattr(commands.typer, "prompt", lambda question, err: next(answers))
    monkeypatch.setattr(commands.sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    commands.card_new("asked", None, None, None, None, None, None, json=False)
    assert known_library().claims["asked"].statement == "It falls."


def test_a_card_is_read_with_and_without_the_word_show():
    assert run("card", "dpo.beta") == run("card", "show", "dpo.beta")
    assert json.loads(run("card", "dpo.beta", "--json"))["path"] == "dpo.beta"
    help = run("card", "--help")
    assert "new" in help
    assert "show" in help
