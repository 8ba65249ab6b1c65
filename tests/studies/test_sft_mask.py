"""The second task and its fillers by hand; the study at its smallest; what differs between its arms."""

import json

import pytest

from trimpot.core.rows import Message
from trimpot.knobs.library import library
from trimpot.models.tiny import tiny
from trimpot.studies import reversal, sft_mask
from trimpot.studies.second_task import FILLERS, answered, filled, rotated, task_of
from trimpot.studies.subject import subject_of

SMALL = {
    "stop_at": 1.0, "sft_steps": 40, "prompts": 80, "pairs": 0, "held_out": 16,
    "pretrain_steps": 10, "pretrain_rate": 1e-3, "steps": 12, "batch": 16,
}  # fmt: skip
STUDY = sft_mask.STUDY


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "seed"
    folder.mkdir()
    return folder


def test_the_second_task_is_asked_for_in_another_form_and_rotates():
    (row,) = rotated([row for row in reversal.words(4096, 0) if row.prompt[0].content == "abcd"])
    assert row.prompt[0].content == ">abcd"
    assert row.answer == "bcda"
    assert [turn.content for turn in answered([row])[0].messages] == [">abcd", "bcda"]


def test_fillers_stand_before_the_first_user_turn_and_have_no_letter_of_the_task():
    turns = (Message("system", "s"), Message("user", "abcd"), Message("assistant", "x"), Message("user", "y"))
    long = filled(turns, 3, 0, "name")
    *words, last = long[1].content.split(" ")
    assert last == "abcd"
    assert len(words) == 3
    assert set(words) <= set(FILLERS)
    assert (long[0], *long[2:]) == (turns[0], *turns[2:])
    assert filled(turns, 3, 0, "name") == long
    assert filled(turns, 3, 0, "other") != long
    assert filled(turns, 0, 0, "name") == turns
    assert filled((Message("system", "s"),), 3, 0, "name") == (Message("system", "s"),)
    assert not set("".join(FILLERS)) & set(reversal.LETTERS)


def test_no_word_is_both_trained_on_and_held_out(kept):
    subject = subject_of(SMALL, 3, kept)
    task = task_of(subject, SMALL, 3, filler=2)
    letters = [{row.messages[0].content.split(">")[1] for row in rows} for rows in (task.train, task.held_out)]
    assert [len(part) for part in letters] == [80, 16]
    assert not letters[0] & letters[1]
    assert not letters[1] & {row.messages[0].content for row in subject.chats()}
    assert [row.prompt[0].content for row in task.prompts] == [row.messages[0].content for row in task.held_out]


def test_rows_of_the_longest_prompts_are_not_cut(kept):
    """A template of 19 tokens, 30 of filler, 5 of the prompt and 5 of the answer, as the study's scale says."""
    subject = subject_of(SMALL, 3, kept)
    (sample,) = subject.samples(task_of(subject, SMALL, 3, sft_mask.LONG).train[:1], tiny("0.1m"))
    assert (sample.tokens, sample.targets) == (59, 5)
    (every,) = subject.samples(task_of(subject, SMALL, 3).train[:1], tiny("0.1m"), "all")
    assert (every.tokens, every.targets) == (29, 28)


def test_a_run_is_a_function_of_its_arguments_and_the_mask_counts(kept):
    sft_mask.prepare(SMALL, 3, kept)
    arms = STUDY.budgets["full"].arms
    answers = {**arms["assistant, 32 rows, long prompts"], "learning_rate": 3e-3}
    every = {**arms["all, 32 rows, long prompts"], "learning_rate": 3e-3}
    first, second, other = (sft_mask.run(values, SMALL, 3, kept) for values in (answers, answers, every))
    assert first == second
    assert first["answer_loss"] != other["answer_loss"]
    assert first["gap"] == first["answer_loss"] - first["trained_answer_loss"]
    assert first["score"] == first["accuracy"]
    assert other["trained_answer_loss"] > first["trained_answer_loss"]


def test_rows_of_ones_own_are_scored_by_their_loss(kept):
    rows = [[{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": f"{n}"}] for n in range(80)]
    data = kept / "chats.jsonl"
    data.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    own = {**SMALL, "subject": "own", "model": "tiny-0.1m", "data": str(data), "sft_steps": 0, "held_out": 8}
    sft_mask.prepare(own, 3, kept)
    assert not (kept / sft_mask.MODEL).exists()
    values = {**STUDY.budgets["full"].arms["all, 32 rows, long prompts"], "learning_rate": 1e-3}
    metrics = sft_mask.run(values, own, 3, kept)
    assert metrics["score"] == -metrics["answer_loss"]
    assert "accuracy" not in metrics


def test_budgets_have_seeds_a_control_and_the_arms_of_every_claim():
    for budget in STUDY.budgets.values():
        assert budget.seeds >= 5
        assert STUDY.control.applies(budget.arms)
    full, quick = STUDY.budgets["full"], STUDY.budgets["quick"]
    assert STUDY.tests_of(full).keys() == STUDY.tests.keys()
    assert quick.arms.items() <= full.arms.items()
    assert set(STUDY.claims.values()) <= STUDY.tests.keys()
    assert all(library().claims[name].study == STUDY.id for name in STUDY.claims)
    assert max(STUDY.tuning.seeds) < STUDY.first_seed


def test_compared_arms_differ_in_the_mask_alone():
    arms = STUDY.budgets["full"].arms
    for test in STUDY.tests.values():
        first, second = arms[test.first], arms[test.second]
        assert {knob for knob in first if first[knob] != second[knob]} == {"mask"}
