"""What a study trains: the tiny task with its cache, and a user's model and rows."""

import json
import math
import shutil

import pytest
import torch

from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow
from trimpot.data.forms import record_of
from trimpot.models.tiny import tiny
from trimpot.studies import words
from trimpot.studies.own import RATE_FACTOR, UNJUDGED, as_chat, as_prompt, on_own, split_rows
from trimpot.studies.study import Budget, Tuning
from trimpot.studies.subject import prepare_subject, subject_of
from trimpot.studies.words import cached, kept_base

SETTINGS = {"stop_at": 0.2, "sft_steps": 260, "prompts": 48, "pairs": 16, "held_out": 16}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    """One cache for the module: the base is made once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def subject(tmp_path):
    prepare_subject(SETTINGS, 3, tmp_path)
    return subject_of(SETTINGS, 3, tmp_path)


def weights(policy):
    return torch.cat([value.detach().flatten() for value in policy.model.state_dict().values()])


def contents(rows):
    return {row.prompt[-1].content for row in rows}


def test_no_word_is_in_two_parts(subject):
    learned = {row.messages[0].content for row in subject.chats()}
    prompts, held_out = contents(subject.prompts()), contents(subject.held_out())
    assert (len(learned), len(prompts), len(held_out)) == (872, 48, 16)
    assert not learned & prompts
    assert not learned & held_out
    assert not prompts & held_out
    assert all(row.answer == row.prompt[-1].content[::-1] for row in subject.held_out())


def test_the_base_is_fine_tuned_and_every_call_gives_it_afresh(subject):
    base = subject.base()
    assert not torch.equal(weights(base), weights(tiny("0.1m", seed=3)))
    assert all(value.requires_grad for value in base.model.parameters())
    _, scores = subject.sampled(base, subject.held_out(), 8, 0)
    right = [score for group in scores for score in group]
    assert 0.05 < sum(right) / len(right) < 0.95
    with torch.no_grad():
        next(base.model.parameters()).zero_()
    assert not torch.equal(weights(base), weights(subject.base()))


def test_pairs_are_a_right_over_a_wrong_answer_of_the_bases_own(subject):
    for pairs, rows in ((subject.pairs(), subject.prompts()), (subject.held_out_pairs(), subject.held_out())):
        answers = {row.prompt[-1].content: row.answer for row in rows}
        assert pairs
        assert contents(pairs) <= answers.keys()
        for pair in pairs:
            right = answers[pair.prompt[-1].content]
            assert pair.chosen[0].content == right
            assert pair.rejected[0].content != right
            assert pair.slices["constructed"] == "verifier"
    assert len(subject.pairs()) <= 16


def test_a_score_is_the_verifiers_and_a_completion_without_an_end_has_none_right(subject, monkeypatch):
    base, rows = subject.base(), subject.held_out()
    groups, scores = subject.sampled(base, rows, 4, 1)
    assert [len(group) for group in groups] == [4] * len(rows)
    for row, group, marks in zip(rows, groups, scores, strict=True):
        for one, mark in zip(group, marks, strict=True):
            text = base.tokenizer.decode(one.ids, skip_special_tokens=True)
            assert mark == float(one.finished and text.strip().rstrip(".").casefold() == row.answer)
    again, _ = subject.sampled(base, rows, 4, 1)
    assert again == groups


def test_a_prompt_without_a_verifier_has_no_score(subject):
    rows = [PromptRow((Message("user", "abcd"),), verifier=UNJUDGED), *subject.held_out()[:1]]
    _, scores = subject.sampled(subject.base(), rows, 2, 0)
    assert [[math.isnan(mark) for mark in group] for group in scores] == [[True, True], [False, False]]


def test_pairs_that_the_settings_do_not_ask_for_are_not_there(tmp_path):
    settings = {**SETTINGS, "pairs": 0}
    prepare_subject(settings, 3, tmp_path)
    with pytest.raises(ValueError, match="settings must ask for them"):
        subject_of(settings, 3, tmp_path).pairs()


def test_a_base_is_made_once_for_all_studies_and_again_for_other_settings(subject, tmp_path, monkeypatch):
    def refusing(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(words.reversal, "base_policy", refusing)
    other = tmp_path / "other"
    other.mkdir()
    prepare_subject({**SETTINGS, "held_out": 17, "pairs": 0}, 3, other)
    assert torch.equal(weights(subject_of(SETTINGS, 3, other).base()), weights(subject.base()))
    for change in ({"stop_at": 0.3}, {"sft_steps": 261}):
        with pytest.raises(AssertionError, match="made again"):
            prepare_subject({**SETTINGS, **change}, 3, other)
    with pytest.raises(AssertionError, match="made again"):
        prepare_subject(SETTINGS, 4, other)


def test_a_base_made_again_is_the_same_bit_for_bit(subject, cache):
    folder = kept_base(3, SETTINGS["stop_at"], SETTINGS["sft_steps"])
    before = (folder / words.BASE).read_bytes()
    shutil.rmtree(folder)
    assert (kept_base(3, SETTINGS["stop_at"], SETTINGS["sft_steps"]) / words.BASE).read_bytes() == before


def test_what_fails_half_way_leaves_nothing_in_the_cache():
    def failing(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        cached("failing", failing)
    folder = cached("failing", lambda folder: (folder / "whole").write_text("x"))
    assert [file.name for file in folder.iterdir()] == ["whole"]


def test_an_unknown_subject_is_named(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'words'"):
        subject_of({"subject": "word"}, 0, tmp_path)


def prompt(number):
    return (Message("user", f"question {number}"),)


ROWS = {
    "prompts": [PromptRow(prompt(number), f"answer {number}") for number in range(100)],
    "chats": [ChatRow((*prompt(number), Message("assistant", f"answer {number}"))) for number in range(100)],
    "pairs": [
        PreferencePair(prompt(number), (Message("assistant", "good"),), (Message("assistant", "bad"),))
        for number in range(100)
    ],
}


def written(tmp_path, rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(record_of(row)) + "\n" for row in rows))
    return str(path)


def own(tmp_path, data, **settings):
    settings = {"subject": "own", "model": "tiny-0.1m", "data": data, "prompts": 40, "held_out": 12, **settings}
    folder = tmp_path / "seed"
    folder.mkdir(exist_ok=True)
    prepare_subject(settings, 5, folder)
    return subject_of(settings, 5, folder)


@pytest.mark.parametrize("kind", ROWS)
def test_a_users_rows_are_split_by_their_prompts(tmp_path, kind):
    data = written(tmp_path, ROWS[kind])
    subject = own(tmp_path, data, prompts=100, held_out=100)
    train, held_out = contents(subject.prompts()), contents(subject.held_out())
    assert len(train) + len(held_out) == 100
    assert not train & held_out
    assert 10 <= len(held_out) <= 32
    assert {row.messages[0].content for row in subject.chats()} == train
    assert train == contents(own(tmp_path, data, prompts=100, held_out=100).prompts())
    assert len(own(tmp_path, data).held_out()) <= 12


def test_a_users_pairs_are_taken_as_they_are(tmp_path):
    subject = own(tmp_path, written(tmp_path, ROWS["pairs"]), pairs=30)
    assert len(subject.pairs()) == 30
    assert not contents(subject.pairs()) & contents(subject.held_out_pairs())
    assert {pair.chosen[0].content for pair in subject.held_out_pairs()} == {"good"}
    assert {row.verifier for row in subject.held_out()} == {UNJUDGED}
    assert subject.chats()[0].messages[-1].content == "good"
    assert torch.equal(weights(subject.base()), weights(tiny("0.1m", seed=5)))


def test_a_row_serves_as_another_kind():
    assert as_prompt(ROWS["chats"][0]) == PromptRow(prompt(0), "answer 0")
    assert as_chat(ROWS["prompts"][0]).messages == ROWS["chats"][0].messages
    assert as_chat(ROWS["pairs"][0]).messages == (*prompt(0), Message("assistant", "good"))
    with pytest.raises(UsageError, match="no answer to imitate"):
        as_chat(PromptRow(prompt(0)))
    for turns in (prompt(0), (Message("assistant", "alone"),)):
        with pytest.raises(UsageError, match="no prompt with one plain answer"):
            as_prompt(ChatRow(turns))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS["prompts"][:20], "too few rows"),
        (ROWS["prompts"] + ROWS["pairs"], "holds preference pair and prompt rows"),
    ],
)
def test_rows_that_make_no_study_are_refused(tmp_path, rows, words):
    data = written(tmp_path, rows)
    with pytest.raises(UsageError, match=words) as raised:
        split_rows(data)
    assert raised.value.where == data


def test_embedded_rows_are_of_three_splits_and_the_base_can_be_fine_tuned_on_one(tmp_path):
    plain = own(tmp_path, "embedded:reasoning-easy", chats=24)
    assert len(plain.chats()) == 24
    assert (len(plain.prompts()), len(plain.held_out())) == (40, 12)
    learned = {row.messages[-2].content for row in plain.chats()}
    assert not learned & contents(plain.prompts())
    assert not contents(plain.prompts()) & contents(plain.held_out())
    before = weights(plain.base())
    assert torch.equal(before, weights(tiny("0.1m", seed=5)))
    tuned = own(tmp_path, "embedded:reasoning-easy", chats=24, sft_steps=2, sft_batch=4, sft_learning_rate=1e-3)
    assert not torch.equal(before, weights(tuned.base()))
    assert torch.equal(weights(tuned.base()), weights(tuned.base()))


def test_no_pairs_can_be_made_where_nothing_is_right(tmp_path):
    with pytest.raises(UsageError, match="no prompt got both"):
        own(tmp_path, "embedded:reasoning-easy", prompts=3, pairs=3, max_tokens=1)


def test_a_study_goes_on_a_users_rows(toy, tmp_path):
    data = written(tmp_path, ROWS["prompts"])
    settings = {"steps": 400, "learning_rate": 3e-4, "prompts": 2000, "held_out": 8, "sft_steps": 600}
    study = toy.study(
        kinds=("prompts",), budgets={"quick": Budget(toy.ARMS, 5, settings)}, tuning=Tuning(values=(3e-4,), seeds=(9,))
    )
    tiny_one = on_own(study, "tiny-0.1m", data)
    found = tiny_one.budgets["quick"].settings
    assert (found["subject"], found["model"], found["data"]) == ("own", "tiny-0.1m", data)
    assert (found["steps"], found["sft_steps"], found["learning_rate"]) == (400, 0, 3e-4)
    assert tiny_one.model == "tiny-0.1m"
    larger = on_own(study, "smollm2-135m", data)
    found = larger.budgets["quick"].settings
    assert (found["steps"], found["prompts"], found["held_out"]) == (40, 256, 8)
    assert found["learning_rate"] == larger.tuning.values[0] == 3e-4 * RATE_FACTOR
    plan = tiny_one.plan("quick", 5, toy.CLAIMS)
    split_rows.cache_clear()
    written(tmp_path, ROWS["prompts"][:90])
    assert on_own(study, "tiny-0.1m", data).plan("quick", 5, toy.CLAIMS) != plan


def test_a_study_refuses_rows_that_it_does_not_take(toy, tmp_path):
    with pytest.raises(UsageError, match="cannot run on a model and rows of one's own"):
        on_own(toy.study(), "tiny-0.1m", written(tmp_path, ROWS["prompts"]))
    with pytest.raises(UsageError, match="holds prompts, and the study toy takes pairs"):
        on_own(toy.study(kinds=("pairs",)), "tiny-0.1m", written(tmp_path, ROWS["prompts"], "other.jsonl"))
