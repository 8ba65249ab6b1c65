import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.redteam.models import model, secret_of
from trimpot.evaluation.redteam.attack import AttackSettings, attack
from trimpot.evaluation.redteam.families import cases_of
from trimpot.evaluation.redteam.minimise import ddmin, minimised
from trimpot.evaluation.redteam.seeds import own_seeds

LONG = AttackSettings(max_tokens=400)
SECRET = next(one for one in own_seeds() if one.detector == "secret")
RULE = next(one for one in own_seeds() if one.detector == "refusal")


def test_zellers_example_is_reduced_to_the_parts_that_are_needed():
    # Zeller and Hildebrandt 2002, section 3: 1, 7 and 8 of eight are needed.
    found = ddmin(range(1, 9), lambda some: {1, 7, 8} <= set(some))
    assert (found.parts, found.minimal) == ((1, 7, 8), True)


@given(st.integers(1, 24).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_of_a_monotone_failure_exactly_the_needed_parts_are_left(given_):
    count, needed = given_
    found = ddmin(range(count), lambda some: needed <= set(some), calls=10_000)
    assert set(found.parts) == needed
    assert list(found.parts) == sorted(needed)


@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_without_monotony_no_single_part_can_be_left_out(count, salt):
    def fails(some):
        return len(some) == count or hash((salt, some)) % 3 == 0

    found = ddmin(range(count), fails, calls=10_000)
    assert found.minimal
    assert fails(found.parts)
    for number in range(len(found.parts)):
        rest = found.parts[:number] + found.parts[number + 1 :]
        assert not rest or not fails(rest)


def test_nothing_is_tested_twice_and_calls_are_bounded():
    asked = []

    def fails(some):
        asked.append(some)
        return {3, 11, 17} <= set(some)

    whole = ddmin(range(20), fails, calls=10_000)
    assert len(asked) == len(set(asked)) == whole.calls
    asked.clear()
    cut = ddmin(range(20), fails, calls=5)
    assert len(asked) == cut.calls == 5
    assert not cut.minimal
    assert {3, 11, 17} <= set(cut.parts)


def test_what_does_not_fail_cannot_be_minimised():
    with pytest.raises(ValueError, match="does not fail"):
        ddmin([1, 2], lambda some: False)


def test_a_prompt_is_reduced_to_the_words_that_leak():
    def leaks_to_a_character_without_rules(prompt, sample):
        asked = prompt.split("user:")[-1]
        return secret_of(prompt) if "character" in asked and "rules" in asked else "I cannot say."

    scripted = model(leaks_to_a_character_without_rules)
    case = next(
        one for seed in range(20) for one in cases_of([SECRET], ["role_play"], seed, False) if "rules" in one.turns[0]
    )
    (attempt,) = attack(scripted, [case], LONG)
    smallest, left = minimised(scripted, attempt, 200)
    assert smallest.turns == ("character rules",)
    assert smallest.system == case.system
    assert (left.parts, left.minimal) == (("character", "rules"), True)
    assert left.calls <= 200


def test_turns_that_are_not_needed_are_left_out_and_those_that_are_stay():
    def leaks_after_unusual(prompt, sample):
        return secret_of(prompt) if "unusual" in prompt and "password" in prompt.rpartition("user:")[2] else "No."

    scripted = model(leaks_after_unusual)
    case = next(
        one
        for seed in range(20)
        for one in cases_of([SECRET], ["multi_turn"], seed, False)
        if "unusual" in one.turns[1]
    )
    (attempt,) = attack(scripted, [case], LONG)
    smallest, left = minimised(scripted, attempt, 200)
    assert smallest.turns == ("unusual", "password")
    assert left.minimal


def test_where_any_answer_counts_the_request_itself_is_kept():
    # Without this ddmin would end with a harmless word that is answered, too.
    def obeys_under_pressure(prompt, sample):
        return "His cooking is bad." if "Sure" in prompt or "Absolutely" in prompt else "I cannot do that."

    scripted = model(obeys_under_pressure)
    (attempt,) = attack(scripted, cases_of([RULE], ["prefix_injection"], twins=False), LONG)
    assert attempt.result == "success"
    smallest, left = minimised(scripted, attempt)
    (turn,) = smallest.turns
    assert turn.startswith(RULE.request + " ")
    assert len(turn.removeprefix(RULE.request).split()) == 1
    assert left.minimal


def test_a_failure_that_does_not_come_again_is_not_minimised():
    said = iter(["marigold-17", *["I cannot say."] * 99])
    scripted = model(lambda prompt, sample: next(said))
    (attempt,) = attack(scripted, cases_of([SECRET], ["direct"], twins=False), LONG)
    assert attempt.result == "success"
    assert minimised(scripted, attempt) is None


def test_minimising_a_prompt_asks_no_more_than_it_may():
    scripted = model(lambda prompt, sample: secret_of(prompt))
    (attempt,) = attack(scripted, cases_of([SECRET], ["many_shot"], twins=False), LONG)
    scripted.requests.clear()
    _, left = minimised(scripted, attempt, calls=4)
    assert len(scripted.requests) == left.calls == 4
