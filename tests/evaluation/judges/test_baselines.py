import random

import pytest

from tests.evaluation.judges.cases import FunctionJudge, by_content, longer, pair
from trimpot.core.rows import Message, PreferencePair
from trimpot.evaluation.judges.baselines import CONSTANT, length_rule, null_baselines
from trimpot.evaluation.judges.duel import judge_pairs
from trimpot.evaluation.judges.preferences import preference_rules
from trimpot.statistics.intervals import wilson

PAIRS = [pair(n, a=f"right {n}", b=f"right as well {n}") for n in range(30)]


def faults(judge, pairs=PAIRS):
    return {one.name: one.fault for one in null_baselines(judge, pairs, probes=30)}


def test_null_answers_lose_with_a_judge_that_reads():
    found = null_baselines(FunctionJudge(by_content), PAIRS, probes=20)
    rates = {one.name: one.win_rate for one in found}
    assert {name: rate.value for name, rate in rates.items()} == {
        "copy of the prompt": 0.0,
        "constant answer": 0.0,
        "answer given twice": 0.5,
    }
    assert rates["copy of the prompt"].high == wilson(0, 20).high
    assert [one.fault for one in found] == ["", "", ""]


def test_a_judge_that_counts_characters_loses_to_the_constant_and_to_the_padded_answer():
    found = faults(FunctionJudge(longer))
    assert "wins 100% of the time [89, 100], which is not shown to be below 50%" in found["constant answer"]
    assert "beats the answer given once 100%" in found["answer given twice"]
    assert found["copy of the prompt"] == "" or "wins" in found["copy of the prompt"]


def test_a_judge_that_always_says_a_cannot_show_that_null_answers_lose():
    found = faults(FunctionJudge(lambda question, draw: 1.0))
    # The swap rule makes ties of it all: 50%, which is not below 50%.
    assert "wins 50%" in found["copy of the prompt"]
    assert "wins 50%" in found["constant answer"]
    assert found["answer given twice"] == ""


def test_a_judge_that_likes_the_prompt_loses_to_its_copy():
    found = faults(FunctionJudge(lambda question, draw: float("Question" in question.first)))
    assert "copy of the prompt: wins 100%" in found["copy of the prompt"]
    assert "constant" not in found["copy of the prompt"]


def test_a_judge_without_readable_verdicts_is_at_fault_and_one_that_cannot_be_asked_has_none():
    found = faults(FunctionJudge(lambda question, draw: None))
    assert "no verdict could be read" in found["constant answer"]
    assert null_baselines(FunctionJudge(by_content, reads_anything=False), PAIRS) == []


def test_real_answers_that_are_the_null_answer_are_left_out():
    pairs = [pair(n, a=CONSTANT, b=CONSTANT) for n in range(5)] + [pair(9, a="right", b="right")]
    rates = {one.name: one.win_rate for one in null_baselines(FunctionJudge(by_content), pairs)}
    assert rates["constant answer"].n == 1


def test_probes_depend_on_the_seed_alone():
    seen = []

    def note(question, draw):
        seen.append(question.pair.item)
        return by_content(question)

    null_baselines(FunctionJudge(note), PAIRS, probes=5, seed=1)
    first, seen = seen, []
    null_baselines(FunctionJudge(note), PAIRS, probes=5, seed=1)
    assert first == seen
    assert len(set(first)) == 5


def test_length_rule_by_hand():
    rows = [pair(n, a="x", b="longer") for n in range(8)] + [pair(n, a="longer", b="x") for n in (8, 9)]
    # The judge always prefers B: 8 of 10 times the longer answer.
    rule = length_rule(judge_pairs(FunctionJudge(lambda q, draw: float(q.swapped)), rows))
    assert (rule.agreement.value, rule.fault) == (0.8, "")
    assert rule.agreement.low == wilson(8, 10).low


def test_verdicts_that_length_alone_explains_are_at_fault():
    rows = [pair(n, a="x" * (n % 7 + 1), b="y" * (n % 5 + 2)) for n in range(60)]
    rule = length_rule(judge_pairs(FunctionJudge(longer), rows))
    assert rule.agreement.value == 1.0
    assert "the longer answer wins 100%" in rule.fault
    assert length_rule([]).agreement.value is None


def preference(number, chosen, rejected, prompt=None):
    turns = [(Message("assistant", text),) for text in (chosen, rejected)]
    return PreferencePair((Message("user", prompt or f"What is {number}?"),), *turns)


def test_a_set_whose_longer_answer_is_always_chosen_is_unusable():
    """reward-bench issue 267, constructed: "pick the longer" is right in every pair."""
    rng = random.Random(0)
    rows = [preference(n, "good " * rng.randint(6, 20), "bad " * rng.randint(1, 5)) for n in range(40)]
    longer_rule, *_ = preference_rules(rows)
    assert longer_rule.right.value == 1.0
    assert "longer: is right in 100% of 40 pairs [91, 100]" in longer_rule.fault
    shorter = preference_rules([preference(n, "ok", "much too long") for n in range(40)])[0]
    assert "is wrong in all but 0%" in shorter.fault


def test_a_set_that_reads_copies_or_one_text_is_unusable_too():
    copies = [preference(n, f"what is {n}", f"it is blue {n}") for n in range(40)]
    assert "copies the prompt: is right in 100%" in preference_rules(copies)[1].fault
    refusals = [preference(n, "I cannot help.", f"answer number {n}!") for n in range(40)]
    assert "constant: is right in 100%" in preference_rules(refusals)[2].fault


def test_a_balanced_set_has_no_fault_and_a_text_does_not_vote_for_itself():
    rows = [preference(n, "xx yy" if n % 2 else "zz", "zz" if n % 2 else "xx yy") for n in range(40)]
    rules = preference_rules(rows)
    assert [one.fault for one in rules] == ["", "", ""]
    assert rules[0].right.value == 0.5
    unique = preference_rules([preference(n, f"a{n}", f"b{n}") for n in range(40)])[2]
    assert unique.right.value == 0.5


def test_few_pairs_are_no_fault_and_pairs_of_one_prompt_one_unit():
    assert preference_rules([preference(n, "long one", "x") for n in range(5)])[0].fault == ""
    same = preference_rules([preference(n, "long one" * (n + 1), "x", prompt="one") for n in range(40)])[0]
    assert (same.right.n, same.fault) == (1, "")
    assert preference_rules([])[0].right.value is None


@pytest.mark.parametrize("limit", [0.8, 0.95])
def test_the_limit_is_the_callers(limit):
    rows = [preference(n, "long one", "x") if n < 45 else preference(n, "x", "long one") for n in range(50)]
    # 90% [79, 96]: beyond neither.
    assert preference_rules(rows, limit)[0].fault == ""
    assert preference_rules(rows, 0.75)[0].fault != ""
