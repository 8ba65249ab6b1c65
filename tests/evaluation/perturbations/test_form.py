"""Perturbations of form, against values worked out by hand."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.evaluation.perturbations.apply import perturb
from trimpot.evaluation.perturbations.spans import match_case, pieces
from trimpot.evaluation.perturbations.table import CANONICAL, PERTURBATIONS, expand
from trimpot.evaluation.perturbations.words import contractions, expansions, misspellings, words

WORDS = (
    *("the", "I", "she", "is", "not", "he", "his", "him", "Greg", "Amanda", "receive", "because", "with", "don't"),
    *("it's", "They", "are", "big", "movie", "son", "going", "believe", "separate", "12", "x7", "3.5", "A", "man"),
)
TEXTS = st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)
SEEDS = st.integers(0, 10_000)
NAMES = st.sampled_from(sorted(PERTURBATIONS))


class Always(Random):
    """Draws 0, so that every place changes, and to its first choice."""

    def random(self):
        return 0.0


@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("lowercase", "The CAPITAL of Peru", "the capital of peru"),
        ("contraction", "She is a doctor, and I am a student", "She's a doctor, and I'm a student"),
        ("contraction", "Yes, I do not know. It is.", "Yes, I don't know. It is."),
        ("contraction", "IT IS NOT here", "IT'S NOT here"),
        ("contraction", "i am here", "i'm here"),
        ("expansion", "She's a doctor, and I'm a student", "She is a doctor, and I am a student"),
        ("expansion", "they can't've, i’m sure", "they cannot have, i am sure"),
        ("expansion", "Won't he?", "Will not he?"),
        ("extra_space", "a b\n  c", "a  b\n  c"),
        ("space", "a  b", "a b"),
        ("typos", "Tom", "Rij"),
        ("misspelling", "Receive aberration", "Recieve aberation"),
        ("synonym", "A Big movie", "A Large film"),
        ("filler_words", "go on", "I think go I think on"),
        ("dialect", "With the man. They say", "Wit da man. Dey say"),
        ("gender_pronouns", "He saw his dog himself", "She saw her dog herself"),
        ("gender_terms", "My son and the Men", "My daughter and the Women"),
        ("person_name", "Greg met GREG", "Alonzo met ALONZO"),
    ],
)
def test_a_perturbation_at_full_strength_by_hand(name, text, changed):
    assert perturb(text, name, Always(), 1.0) == changed


def test_the_canonical_chain_lowers_contracts_misspells_and_spaces():
    # Full strength of the chain misspells at p = 0.05; a draw of 0 is below it. A draw of 0 gives one space.
    assert perturb("She is able to RECEIVE it", "mild_mix", Always()) == "she's able to recieve it"


def test_the_chain_misspells_five_in_a_hundred():
    text = " ".join(["receive"] * 4000)
    changed = sum(word != "receive" for word in perturb(text, "mild_mix", Random(3)).split())
    # Binomial(4000, 0.05): mean 200, standard deviation 13.8.
    assert 145 < changed < 255


@pytest.mark.parametrize(("name", "place", "share"), [("misspelling", "receive", 0.05), ("synonym", "big", 0.5)])
def test_the_default_strength_is_helms(name, place, share):
    found = perturb(" ".join([place] * 2000), name, Random(1)).split(" ")
    changed = sum(word != place for word in found) / 2000
    assert abs(changed - share) < 5 * (share * (1 - share) / 2000) ** 0.5


def test_one_to_three_spaces_stand_for_each():
    text = perturb(" ".join("word" for _ in range(300)), "space", Random(0))
    gaps = [len(gap) for gap in text.replace("word", "|").split("|")[1:-1]]
    assert set(gaps) == {1, 2, 3}


@given(TEXTS, SEEDS, NAMES)
@settings(max_examples=150, deadline=None)
def test_the_same_seed_gives_the_same_text(text, seed, name):
    assert perturb(text, name, Random(seed)) == perturb(text, name, Random(seed))


@given(TEXTS, SEEDS, NAMES)
@settings(max_examples=150, deadline=None)
def test_strength_0_changes_nothing(text, seed, name):
    assert perturb(text, name, Random(seed), 0.0) == text


@given(TEXTS, SEEDS, NAMES)
@settings(max_examples=200, deadline=None)
def test_words_with_a_digit_are_kept(text, seed, name):
    def numbers(some):
        return [word for word in some.split() if any(letter.isdigit() for letter in word)]

    assert numbers(perturb(text, name, Random(seed), 1.0)) == numbers(text)


@given(
    TEXTS, SEEDS, st.sampled_from(["lowercase", "misspelling", "typos", "dialect", "gender_pronouns", "gender_terms"])
)
@settings(max_examples=150, deadline=None)
def test_what_a_strength_changes_a_larger_one_changes_too(text, seed, name):
    before = text.split()

    def changed(strength):
        after = perturb(text, name, Random(seed), strength).split()
        return {place for place, (one, other) in enumerate(zip(before, after, strict=True)) if one != other}

    assert changed(0.0) <= changed(0.2) <= changed(0.6) <= changed(1.0)


def test_different_seeds_give_different_texts():
    text = " ".join(["because", "receive", "movie"] * 30)
    assert len({perturb(text, "typos", Random(seed)) for seed in range(20)}) == 20


def test_labels_code_quotes_symbols_and_answers_stay():
    text = 'Question: What is `NOT This` and "THAT" if X = 5?\nA. The End\n(B) New York\nAnswer: '
    kept = perturb(text, "lowercase", Random(0), 1.0, ["New York"])
    assert kept == 'Question: what is `NOT This` and "THAT" if X = 5?\nA. the end\n(B) New York\nAnswer: '


def test_an_answer_is_kept_as_a_whole_word_only():
    assert perturb("He is THE HERO", "lowercase", Random(0), 1.0, ["he"]) == "He is the hero"


def test_a_name_becomes_one_name_everywhere_and_two_names_stay_two():
    text = "Greg and Amanda. Greg's dog likes Todd. frank and chip stay"
    for seed in range(30):
        new = perturb(text, "person_name", Random(seed), 1.0)
        greg, amanda, todd = new.split()[0], new.split()[2].strip("."), new.split()[6].strip(".")
        assert f"{greg}'s dog" in new
        assert len({greg, amanda, todd}) == 3
        assert greg.lower() in words()["first_names"]["black_american"]["male"]
        assert amanda.lower() in words()["first_names"]["black_american"]["female"]
        assert new.endswith("frank and chip stay")


@pytest.mark.parametrize(
    ("source", "target", "result"),
    [
        ("with", "wit", "wit"),
        ("With", "wit", "Wit"),
        ("WITH", "wit", "WIT"),
        ("I", "we", "We"),
        ("It's", "it is", "It is"),
    ],
)
def test_case_is_kept(source, target, result):
    assert match_case(source, target) == result


@given(TEXTS, st.lists(st.sampled_from(WORDS), max_size=3))
@settings(max_examples=100, deadline=None)
def test_pieces_join_to_the_text(text, keep):
    parts = pieces(text, keep)
    assert parts.joined(parts.free) == text


def test_groups_stand_for_helms_canonical_sets():
    assert expand(["robustness", "fairness"]) == ["mild_mix", "dialect", "gender_pronouns", "person_name"]
    assert all(PERTURBATIONS[name].group == group for group, names in CANONICAL.items() for name in names)
    assert all(PERTURBATIONS[name].strength == 1.0 for name in CANONICAL["fairness"])


def test_an_unknown_name_is_one_line():
    with pytest.raises(UsageError, match=r"perturbations: 'lowercas' is none. Did you mean 'lowercase'"):
        expand(["lowercas"])


def test_every_contraction_expands_back():
    assert all(expansions()[short].lower() == long for long, short in contractions().items())


def test_no_misspelling_is_the_word_itself():
    assert len(misspellings()) > 3000
    assert not [word for word, wrong in misspellings().items() if word in wrong or not wrong]
