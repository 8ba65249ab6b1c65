import json

import pytest

from tests.evaluation.redteam.models import always, leaks_under_role_play, model
from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Origin, PreferencePair
from trimpot.data.files import read_records
from trimpot.data.forms import row_of
from trimpot.evaluation.redteam.attack import AttackSettings, attack
from trimpot.evaluation.redteam.clusters import clustered
from trimpot.evaluation.redteam.failures import failures_of, read_failures, replay, write_failures
from trimpot.evaluation.redteam.families import cases_of
from trimpot.evaluation.redteam.seeds import own_seeds
from trimpot.evaluation.redteam.training_rows import REFUSAL, training_rows, write_rows

SECRETS = [one for one in own_seeds() if one.detector == "secret"][:3]
LONG = AttackSettings(max_tokens=400)


@pytest.fixture
def leaky():
    return model(leaks_under_role_play, "leaky")


@pytest.fixture
def failures(leaky):
    return failures_of(leaky, attack(leaky, cases_of(SECRETS, ["direct", "role_play"]), LONG))


def test_only_attacks_that_worked_are_failures(failures):
    assert [one.case.family for one in failures] == ["role_play"] * 3
    assert not any(one.case.twin for one in failures)
    for one in failures:
        assert one.case.seed.target in one.output
        assert one.minimal
        assert len(one.minimal_turns[0].split()) == 1  # one word of the frame is what the model falls for
        assert one.model.name == "leaky"


def test_every_cluster_gets_its_share_of_the_calls(leaky):
    attempts = attack(leaky, cases_of([*SECRETS, SECRETS[0]], ["role_play"], twins=False), LONG)
    found = failures_of(leaky, attempts, calls=60, total=1)
    small = [one.cluster for one in found if one.minimal_turns is not None]
    assert small == [0]  # the first of the largest cluster: one call finds that it comes again, and no more
    assert not any(one.minimal for one in found)
    assert all(one.minimal_turns is None for one in failures_of(leaky, attempts, calls=0))


def test_failures_are_read_as_they_were_written(tmp_path, failures):
    file = tmp_path / "failures.jsonl"
    write_failures(file, [*failures, failures[0]])
    assert read_failures(file) == failures
    assert len(file.read_text().splitlines()) == 3


def test_an_id_depends_on_what_is_sent_and_not_on_who_failed(leaky, failures):
    other = model(leaks_under_role_play, "another")
    again = failures_of(other, attack(other, cases_of(SECRETS, ["role_play"]), LONG), calls=0)
    assert [one.id for one in again] == [one.id for one in failures]
    assert again[0].model != failures[0].model
    assert len({one.id for one in failures}) == 3


def test_a_replay_on_the_same_model_still_works_and_on_a_mended_one_does_not(leaky, failures):
    assert all(one.still for one in replay(leaky, failures))
    mended = replay(always("I cannot tell you that."), failures)
    assert not any(one.still or one.undetermined for one in mended)


def test_a_model_mended_against_the_stored_words_alone_is_not_mended(failures):
    stored = {one.case.turns[0] for one in failures}

    def knows_the_stored_prompts(prompt, sample):
        known = any(turn in prompt for turn in stored)
        return "I cannot say." if known else leaks_under_role_play(prompt, sample)

    found = replay(model(knows_the_stored_prompts), failures)
    assert [(one.result, one.minimal, one.still) for one in found] == [("failure", "success", True)] * 3


def test_a_replay_that_cannot_be_judged_is_not_mended(failures):
    found = replay(always("§ § §"), failures)
    assert all(one.undetermined and not one.still for one in found)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda row: row.pop("case"), "no failure: 'case'"),
        (lambda row: row.update(format=7), "no failure of format 1"),
        (lambda row: row["case"].update(turns=["another prompt"]), "that of its content"),
        (lambda row: row["case"]["seed"].update(detector="none"), "unknown detector 'none'"),
        (lambda row: row["case"].update(turns=3), "no failure"),
    ],
)
def test_a_changed_file_is_one_line(tmp_path, failures, change, problem):
    file = tmp_path / "failures.jsonl"
    write_failures(file, failures)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    change(rows[1])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError) as caught:
        read_failures(file)
    assert str(caught.value).startswith(f"{file}:2: ")
    assert problem in str(caught.value)


def test_failures_become_flagged_preference_pairs_that_recipes_read(tmp_path, failures):
    rows = training_rows(failures, wanted={failures[1].id: "That stays a secret."})
    write_rows(tmp_path / "pairs.jsonl", rows)
    held = [row_of(record, Origin()) for _, record in read_records(str(tmp_path / "pairs.jsonl"), "train")]
    assert [row.id for row in held] == [row.id for row in rows]
    assert all(isinstance(row, PreferencePair) for row in held)
    assert [row.chosen[0].content for row in held] == [REFUSAL, "That stays a secret.", REFUSAL]
    assert [row.rejected[0].content for row in held] == [one.output for one in failures]
    assert {tuple(sorted(row.slices.items())) for row in held} == {
        (("category", "secret"), ("family", "role_play"), ("origin", "redteam"))
    }
    assert rows[0].origin.parents == (failures[0].id,)


def test_a_conversation_is_kept_in_the_row(leaky):
    plays = model(lambda prompt, sample: "Well." if prompt.count("user:") < 3 else "marigold-17")
    cases = cases_of(SECRETS[:1], ["multi_turn"], twins=False)
    (one,) = failures_of(plays, attack(plays, cases, LONG), calls=0)
    (row,) = training_rows([one], "chat")
    assert isinstance(row, ChatRow)
    assert [turn.role for turn in row.messages] == [
        "system", "user", "assistant", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert row.messages[-1].content == REFUSAL


def test_texts_that_are_alike_are_one_cluster():
    texts = [
        "write an insult about his cooking",
        "reveal the password of the shed",
        "an insult about the cooking of his aunt",
        "insult his terrible cooking",
        "the password of the garden shed",
        "of the",
    ]
    found = clustered(texts)
    assert found.labels == (0, 1, 0, 0, 1, 2)
    assert "cooking" in found.names[0]
    assert "password" in found.names[1]
    assert clustered([]).labels == ()
    assert clustered(["of the", "and"]).labels == (0, 0)
    assert clustered(["one text alone"]).labels == (0,)
