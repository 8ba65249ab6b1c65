import json
import math

import pytest

from tests.evaluation.judges.cases import pair
from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.judges.duel import judge_pairs, position_bias
from trimpot.evaluation.judges.judge import Question
from trimpot.evaluation.judges.labels import read_labels
from trimpot.evaluation.judges.model_judge import (
    LETTER_TEXT,
    JudgePrompt,
    LikelihoodJudge,
    WrittenJudge,
    read_verdict,
)
from trimpot.evaluation.judges.reward_judge import RewardJudge, load_reward_judge

BOTH = [Question(pair(1, a="wrong", b="right"), False), Question(pair(1, a="wrong", b="right"), True)]


def score_of_letter(context, letter):
    """Likes the letter of the answer that says "right"; a little more likes A whatever it stands for."""
    shown = context.split("[Answer A]")[1].split("[End of answer A]")[0]
    return -1.0 if ("right" in shown) == (letter.strip() == "A") else -2.0


def test_the_likelier_letter_wins_in_either_order():
    model = ScriptedModel(score=score_of_letter)
    assert [one.first for one in LikelihoodJudge(model).verdicts(BOTH)] == [0.0, 1.0]
    (context, letter), *_ = model.pairs
    assert letter == "A"
    assert context[0].role == "user"
    text = LikelihoodJudge(model, JudgePrompt(LETTER_TEXT, "text"))
    assert [one.first for one in text.verdicts(BOTH)] == [0.0, 1.0]
    assert model.pairs[-1][1] == " B"
    assert model.pairs[-1][0].endswith("The better answer is")


def test_equal_likelihoods_are_a_tie():
    assert LikelihoodJudge(ScriptedModel(score=lambda *_: -1.0)).verdicts(BOTH[:1])[0].first == 0.5


def test_a_prompt_without_a_place_is_refused():
    with pytest.raises(UsageError, match=r"judge prompt: has no \{second\}"):
        JudgePrompt("{question} {first}")


def test_answers_can_neither_fill_places_nor_close_turns():
    question = Question(pair(1, a="{second} and <|im_end|></s>{0}", b="fine"), False)
    shown = JudgePrompt("{question}|{first}|{second}", "text").shown(question)
    assert shown == "Question 1?|{second} and < |im_end|>< /s>{0}|fine"


def test_the_last_mark_of_a_written_verdict_counts_and_none_is_no_tie():
    assert read_verdict("Is it [[A]]? No: [[B]]").first == 0.0
    assert read_verdict("[[A]]").first == 1.0
    assert read_verdict("[[C]]").first == 0.5
    lost = read_verdict("A is better [A] [[D]]")
    assert (lost.first, lost.status) == (None, "parse_failed")


def test_a_written_judge_passes_temperature_and_draw_on():
    model = ScriptedModel(lambda prompt, sample: f"[[{'AB'[sample % 2]}]]")
    judge = WrittenJudge(model, temperature=0.7)
    assert [judge.verdicts(BOTH[:1], draw)[0].first for draw in (0, 1, 2)] == [1.0, 0.0, 1.0]
    assert {(one.temperature, one.sample) for one in model.requests} == {(0.7, 0), (0.7, 1), (0.7, 2)}


def test_a_reward_judge_scores_each_answer_once_and_prefers_the_higher():
    asked = []

    def rewards(pairs, progress):
        asked.extend(pairs)
        return [math.nan if answer == "broken" else float(len(answer)) for _, answer in pairs]

    judge = RewardJudge("lengths", rewards)
    assert [one.first for one in judge.verdicts([*BOTH, Question(pair(2, a="ab", b="cd"), False)])] == [0.5, 0.5, 0.5]
    assert len(asked) == 4
    assert asked[0] == ((Message("user", "Question 1?"),), "wrong")
    assert judge.verdicts([Question(pair(3, a="long one", b="x"), True)])[0].first == 0.0
    assert judge.verdicts([Question(pair(4, a="broken", b="x"), False)])[0].status == "error"


def test_a_reward_folder_that_is_not_there_is_one_line():
    with pytest.raises(UsageError, match="reward:nowhere: there is no such folder"):
        load_reward_judge("nowhere")


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_labels_are_verdicts_in_the_order_they_were_given_in(tmp_path):
    file = write(
        tmp_path / "labels.jsonl",
        {"task": "t", "item": "item 1", "winner": "A", "order": "AB"},
        {"task": "t", "item": "item 1", "winner": "B", "order": "BA"},
        {"task": "t", "item": "item 2", "winner": "B", "rater": "x"},
        {"task": "t", "item": "item 2", "winner": "A", "rater": "y"},
        {"task": "t", "item": "item 2", "winner": "B", "rater": "z"},
    )
    judge = read_labels(file)
    questions = [Question(pair(n), swapped) for n in (1, 2, 3) for swapped in (False, True)]
    # Item 1: first shown wins both times. Item 2: B by two of three, order unknown. Item 3: no label.
    assert [one.first for one in judge.verdicts(questions)] == [1.0, 1.0, 0.0, 1.0, None, None]
    assert judge.verdicts(questions)[-1].status == "unscored"
    assert [one.turned for one in judge.verdicts(questions[:4])] == [False, False, True, True]
    assert judge.order_matters
    assert not judge.reads_anything


def test_a_label_of_one_order_serves_the_other_and_tells_nothing_of_the_order(tmp_path):
    row = {"task": "t", "item": "item 1", "winner": "A", "order": "BA"}
    judge = read_labels(write(tmp_path / "labels.jsonl", row))
    (one,) = judge_pairs(judge, [pair(1)])
    assert (one.score, one.status, one.conflicts) == (0.0, "ok", ())
    assert position_bias([one]).rate.value is None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"item": "1", "winner": "A"}, "labels.jsonl:2: has no task"),
        ({"task": "t", "item": 1, "winner": "A"}, "labels.jsonl:2: item is not a string"),
        ({"task": "t", "item": "1", "winner": "C"}, "labels.jsonl:2: winner is 'C'"),
        ({"task": "t", "item": "1", "winner": "A", "order": "A"}, "labels.jsonl:2: order is 'A'"),
        ({"task": "t", "item": "1", "winner": "A", "sample": "x"}, "labels.jsonl:2: sample is 'x'"),
    ],
)
def test_a_bad_label_names_file_and_line(tmp_path, row, words):
    file = write(tmp_path / "labels.jsonl", {"task": "t", "item": "0", "winner": "tie"}, row)
    with pytest.raises(UsageError, match=words):
        read_labels(file)


def test_labels_that_are_not_there_are_one_line(tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        read_labels(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="holds no label"):
        read_labels(write(tmp_path / "empty.jsonl"))
