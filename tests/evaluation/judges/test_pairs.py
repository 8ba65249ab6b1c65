import pytest

from tests.evaluation.judges.cases import outcome
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.judges.pairs import conversation_of, pair_outcomes, question_text


def test_outcomes_pair_by_task_item_and_sample_and_what_is_left_is_counted():
    a = [outcome("1", "a1"), outcome("1", "a1 again", sample=1), outcome("2", "a2"), outcome("4", "")]
    b = [outcome("2", "b2"), outcome("1", "b1"), outcome("3", "b3"), outcome("1", "other", task="u"), outcome("4", " ")]
    found = pair_outcomes(a, b)
    assert [(one.item, one.a, one.b) for one in found.pairs] == [("1", "a1", "b1"), ("2", "a2", "b2")]
    assert (found.only_a, found.only_b, found.empty) == (1, 2, 1)


def test_two_outcomes_under_one_key_and_no_common_item_are_refused_in_one_line():
    with pytest.raises(UsageError, match="B: has two outcomes of task t, item 1, sample 0"):
        pair_outcomes([outcome("1", "x")], [outcome("1", "x"), outcome("1", "y")])
    with pytest.raises(UsageError, match=r"B: shares no item with A \(1 and 1 outcomes\)"):
        pair_outcomes([outcome("1", "x")], [outcome("2", "x")])


def test_a_rendered_prompt_gives_its_turns_back():
    chatml = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi\nthere<|im_end|>\n<|im_start|>assistant\n"
    assert conversation_of(chatml) == (Message("system", "Be brief."), Message("user", "Hi\nthere"))
    assert question_text(chatml) == "Hi\nthere"
    plain = "user: one\nassistant: two\nuser: three: four\nassistant:"
    assert [turn.content for turn in conversation_of(plain)] == ["one", "two", "three: four"]
    assert question_text(plain) == "user: one\nassistant: two\nuser: three: four"


def test_a_text_that_no_template_rendered_is_one_user_turn():
    for text in ("What is 2+2?", "user: said hello", "Answer.\nassistant:"):
        assert conversation_of(text) == (Message("user", text),)
