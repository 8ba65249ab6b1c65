"""Suites of a user's own: what is understood, and the one line for what is not."""

import pytest
import yaml

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.behaviour.expectations import AllOf, Equal, ExactlyOne, Invariant, Monotonic, Negated, Spread
from trimpot.evaluation.behaviour.read import Reading, own_lexicons, read_suite

GOOD = {
    "name": "kind",
    "capability": "logic",
    "type": "MFT",
    "template": "Is {a:animal.name} {a:animal.kind}?",
    "answer": "yes_no",
    "label": "yes",
}


@pytest.fixture
def suite(tmp_path):
    """Writes a suite of one test, GOOD with changes, and reads it."""

    def make(reading=None, top=None, **changes):
        test = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({"tests": [test], **(top or {})}, sort_keys=False))
        return read_suite(path, reading or Reading())

    return make


def only(found):
    (test,) = found.tests
    return test


def test_a_suite_of_ones_own(suite):
    test = only(
        suite(top={"lexicons": {"animal": [{"name": "newt", "kind": "amphibian"}]}, "name": "mine"}, about="Kinds.")
    )
    (case,) = test.cases
    assert case.examples[0].text == "Is a newt an amphibian?"
    assert (test.task, test.expect, case.examples[0].label) == ("behaviour/logic/MFT/kind", Equal(), "yes")
    assert test.prompt(case.examples[0]) == (Message("user", "Is a newt an amphibian?\nAnswer yes or no."),)


def test_unquoted_yes_and_no_are_words(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "lexicons: {word: [yes, no]}\n"
        "tests:\n"
        "  - {name: a, capability: logic, type: MFT, template: 'Say {word}.', answer: yes_no, label: '{word}'}\n"
        "  - {name: b, capability: logic, type: DIR, examples: [x, z], answer: yes_no, expect: {exactly_one: yes}}\n"
        "  - {name: c, capability: logic, type: MFT, template: 'x', answer: yes_no, label: no}\n"
    )
    first, second, third = read_suite(path).tests
    assert {case.examples[0].label for case in first.cases} == {"yes", "no"}
    assert second.expect == ExactlyOne("yes")
    assert third.cases[0].examples[0].label == "no"


def test_prompts_of_plain_text_and_questions_by_likelihood(suite):
    test = only(suite(Reading(plain=True, likelihood=True)))
    assert test.prompt(test.cases[0].examples[0]).endswith("\nAnswer yes or no.\nAnswer:")
    assert test.asking.by == "likelihood"
    assert test.asking.continuations(("yes", "no")) == (("yes", " Yes"), ("no", " No"))
    assert only(suite()).asking.continuations(("yes", "no")) == (("yes", "Yes"), ("no", "No"))
    assert only(suite(top={"chat": False})).asking.chat is False


def test_choices_stand_at_every_place_in_turn_and_move_by_orders(suite):
    test = only(
        suite(
            template="Which is an animal? ({name})", answer="choice", options=["{animal.name}", "{city}", "{drink}"],
            label="{animal.name}", type="INV", orders=2,
        )
    )  # fmt: skip
    places = [case.examples[0].options.index(case.examples[0].label) for case in test.cases]
    assert places[:6] == [0, 1, 2, 0, 1, 2]
    for case in test.cases:
        assert {one.options.index(one.label) for one in case.examples} == {0, 1, 2}
        assert {frozenset(one.options) for one in case.examples} == {frozenset(case.examples[0].options)}
    (message,) = test.prompt(test.cases[0].examples[0])
    animal, *_ = test.cases[0].examples[0].options
    assert f"\nA) {animal}\nB) " in message.content
    assert message.content.endswith("\nAnswer with the letter only.")


def test_perturbations_stay_inside_their_marks_and_turn_labels_round(suite):
    test = only(
        suite(
            type="DIR", template="[[{name} is kind.]] Is {name} kind?", perturb=["negation_added", "punctuation"],
            expect={"negated": "invariant"},
        )
    )  # fmt: skip
    first, negated, bare = test.cases[0].examples
    assert negated.text == first.text.replace("is kind.", "is not kind.")
    assert bare.text == first.text.replace("kind. Is", "kind Is")
    assert [one.label for one in (first, negated, bare)] == ["yes", "no", "yes"]
    assert [one.change for one in (first, negated, bare)] == ["original", "negation_added", "punctuation"]


def test_vary_changes_one_filler_and_keeps_the_rest(suite):
    test = only(suite(type="INV", template="{name1} saw {name2} in {city}.", vary={"name1": 3}))
    for case in test.cases:
        first, *others = case.examples
        assert len({one.text for one in case.examples}) == 4
        assert {one.text.split(" saw ")[1] for one in others} == {first.text.split(" saw ")[1]}
        assert not any(one.text.startswith(first.text.split(" saw ")[1].split(" in ")[0]) for one in others)


def test_let_and_where(suite):
    test = only(
        suite(
            template="What is {number1} - {number2}?", answer="number", label="{rest}",
            let={"rest": "number1 - number2"}, where=["number1 > number2 + 1"], cases=40,
        )
    )  # fmt: skip
    for case in test.cases:
        one, two = case.examples[0].text.removeprefix("What is ").removesuffix("?").split(" - ")
        assert int(case.examples[0].label) == int(one) - int(two) > 1


def test_the_same_seed_gives_the_same_cases_and_fewer_are_the_first_of_more(suite):
    many, few = only(suite()), only(suite(Reading(cases=3)))
    assert [test.cases for test in suite().tests] == [many.cases]
    assert few.cases == many.cases[:3]
    assert only(suite(Reading(seed=1))).cases != many.cases
    assert len({case.examples[0].text for case in many.cases}) == len(many.cases)


def test_the_cases_of_a_test_do_not_depend_on_the_other_tests(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"tests": [GOOD]}))
    (alone,) = read_suite(path).tests
    path.write_text(yaml.safe_dump({"tests": [{**GOOD, "name": "other"}, GOOD]}))
    other, beside = read_suite(path).tests
    assert beside == alone
    assert other.cases != alone.cases


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("eq", Equal()),
        ({"eq": True}, Equal("yes")),
        ({"invariant": {"tolerance": 0.1}}, Invariant(0.1)),
        ({"monotonic": {"direction": "increasing", "of": "yes", "tolerance": 1}}, Monotonic(True, "yes", 1.0)),
        ({"spread": {"tolerance": 1}}, Spread(1.0)),
        ({"all_of": ["eq", {"negated": "invariant"}]}, AllOf((Equal(), Negated(Invariant())))),
    ],
)
def test_expectations_as_yaml_has_them(suite, given, found):
    test = only(suite(by="likelihood", expect=given, type="INV", perturb=["punctuation"]))
    assert test.expect == found


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"templat": "x"}, r"own.yaml: test 'kind': 'templat' is no key of it. Did you mean 'template'\?"),
        ({"capability": "negatoin"}, "capability 'negatoin' is unknown. Did you mean 'negation'"),
        ({"type": "MTF"}, "type 'MTF' is unknown. Did you mean 'MFT'"),
        ({"type": ...}, "has no type"),
        ({"answer": "yesno"}, "answer 'yesno' is unknown. Did you mean 'yes_no'"),
        ({"template": "Is {animal?"}, "own.yaml: test 'kind': the brace at character 4 of 'Is {animal"),
        ({"template": "Is {anmal.name}?"}, "'anmal' is no lexicon and not in `let`. Did you mean 'animal'"),
        ({"template": "Is {animal}?"}, "'animal' is an entry with the fields name, kind"),
        ({"template": "Is {animal.size}?"}, "'animal' has no field 'size'"),
        ({"template": ...}, "needs either `template` or `examples`"),
        ({"template": ""}, "'' is no template"),
        ({"template": {"txt": "x"}, "label": "yes"}, "'txt' is no key of it. Did you mean 'text'"),
        ({"label": ...}, "its expectation reads labels, and a text has none"),
        ({"label": ..., "template": [{"text": "a", "label": "yes"}, "b"]}, "reads labels, and a text has none"),
        ({"label": "perhaps"}, "the label 'perhaps' is none of the options yes, no"),
        ({"answer": "number", "label": "six"}, "the label 'six' is no number"),
        ({"answer": "label"}, "has 0 options"),
        ({"answer": "label", "options": ["yes", "Yes"]}, "its options are not all different: yes, Yes"),
        ({"options": ["a", "b"]}, "an answer of kind yes_no has no options"),
        ({"by": "likelihod"}, "by 'likelihod' is unknown. Did you mean 'likelihood'"),
        ({"by": "likelihood", "answer": "number"}, "numbers have no options"),
        ({"expect": "equal"}, "'equal' is no expectation"),
        ({"expect": {"eq": "yse"}}, "names the answer 'yse', which is none of the options. Did you mean 'yes'"),
        ({"expect": {"monotonic": {"direction": "up"}}, "by": "likelihood"}, "direction is 'up'. Write increasing"),
        ({"expect": {"spread": {"tol": 1}}, "by": "likelihood"}, "spread: 'tol' is no key of it. Did you mean"),
        ({"expect": {"spread": {"tolerance": 1}}}, "reads log-probabilities. Add `by: likelihood`"),
        ({"expect": {"all_of": []}}, "is not a list of expectations"),
        ({"type": "DIR"}, "a DIR test has no expectation"),
        ({"type": "INV"}, "its cases have one example each"),
        ({"type": "INV", "perturb": ["typo"]}, "'typo' is no perturbation. Did you mean 'typos'"),
        ({"type": "INV", "perturb": ["numbers"]}, "the perturbation numbers applies to none of its cases"),
        ({"type": "INV", "vary": {"animal": 30}}, "asks for 30 other fillers of animal, and 11 fit"),
        ({"orders": 1}, "`orders` needs choices"),
        ({"answer": "choice", "options": ["a", "b"], "label": "a", "orders": 2}, "2 choices have 1 further orders"),
        ({"where": ["animal.kind == 'stone'"]}, "no combination of fillers meets its conditions"),
        ({"where": ["animal.kind ="]}, "is no expression"),
        ({"where": ["annimal.kind == 'bird'"]}, "'annimal' is no lexicon"),
        ({"let": {"x": "open('y')"}}, "has a part that is not allowed"),
        ({"cases": 0}, "test 'kind': cases: 0 is no whole number of 1 or more"),
        ({"name": ...}, "own.yaml: test 1: has no name"),
    ],
)
def test_bad_tests_are_one_line_that_names_file_and_test(suite, changes, line):
    with pytest.raises(UsageError, match=line) as error:
        suite(**changes)
    assert "own.yaml: test" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n", "own.yaml: is not a mapping of keys"),
        ("tests: [\n", r"own.yaml:\d: is not valid YAML"),
        ("test: []\n", "own.yaml: 'test' is no key of it. Did you mean 'tests'"),
        ("name: a\n", "own.yaml: tests: is missing or empty"),
        ("name: a\nname: b\n", "own.yaml:2: the key 'name' is there twice"),
        ("lexicons: {a1: [x]}\ntests: [1]\n", "lexicon 'a1': is not named in small letters"),
        ("lexicons: {a: []}\ntests: [1]\n", "lexicon 'a': is no list of fillers"),
        ("lexicons: {a: {join: [nmae]}}\ntests: [1]\n", "joins 'nmae', which is no lexicon. Did you mean 'name'"),
        ("lexicons: {a: {range: [1]}}\ntests: [1]\n", "is no range"),
        ("tests: [1]\n", "own.yaml: test 1: 1 is not a mapping"),
        ("chat: sometimes\ntests: [{name: a, capability: logic, type: MFT, answer: yes_no}]\n", "chat is 'sometimes'"),
    ],
)
def test_bad_files_are_one_line(tmp_path, text, line):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=line) as error:
        read_suite(path)
    assert "\n" not in str(error.value)


def test_a_name_given_twice_a_missing_file_and_no_cases(tmp_path, suite):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"tests": [GOOD, GOOD]}))
    with pytest.raises(UsageError, match="test 'kind': is there twice"):
        read_suite(path)
    with pytest.raises(UsageError, match=r"core.yml: there is no such suite"):
        read_suite("core.yml")
    with pytest.raises(UsageError, match="--cases: is 0"):
        read_suite("core", Reading(cases=0))


def test_a_capability_of_ones_own_is_named_in_the_suite(suite):
    assert only(suite(capability="manners", top={"capabilities": ["manners"]})).capability == "manners"


def test_own_lexicons_hold_what_tests_of_fairness_rest_on():
    lexicons = own_lexicons()
    people = {person["name"] for person in lexicons["person"]}
    assert not people & set(lexicons["name"])
    origins = [person["origin"] for person in lexicons["person"]]
    assert {origins.count(origin) for origin in origins} == {4}
    assert lexicons["name"] == [*lexicons["female_name"], *lexicons["male_name"]]
    assert lexicons["number"] == [str(number) for number in range(2, 13)]
    assert {one["label"] for one in lexicons["sentiment"]} == {"positive", "negative"}
