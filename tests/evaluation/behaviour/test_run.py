"""Asking, judging, outcomes, the matrix and the comparison, on small suites worked out by hand."""

import json
import math

import pytest
import yaml

from tests.evaluation.scripted import ScriptedModel
from trimpot.evaluation.behaviour.matrix import by_test, compare_runs, matrix, report_json
from trimpot.evaluation.behaviour.read import read_suite
from trimpot.evaluation.behaviour.run import behaviour_outcomes, run_suite
from trimpot.evaluation.behaviour.text import change_text, comparison_lines, matrix_lines
from trimpot.statistics.paired import paired_difference
from trimpot.store.outcomes import read_outcomes, write_outcomes

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
MFT = {
    "name": "words", "capability": "vocabulary", "type": "MFT", "template": "Is {w} a word?", "answer": "yes_no",
    "label": "yes",
}  # fmt: skip
INV = {
    "name": "stops", "capability": "robustness", "type": "INV", "template": "[[{w} is here.]] Is it?",
    "answer": "yes_no", "perturb": ["punctuation"],
}  # fmt: skip
ODDS = {
    "name": "odds", "capability": "logic", "type": "DIR", "examples": ["Is it {w}?", "Is it really {w}?"],
    "answer": "yes_no", "by": "likelihood", "expect": {"monotonic": {"direction": "increasing", "of": "yes"}},
}  # fmt: skip


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "lexicons": {"w": WORDS}, "tests": [MFT, INV, ODDS]}))
    return read_suite(path)


def word_in(prompt):
    return next(word for word in WORDS if f" {word} " in f" {prompt.replace('?', ' ').replace(chr(10), ' ')} ")


def say(prompt, sample):
    """words: no to one and two, mumbles at three. stops: mumbles at one's original and two's copy, flips at three."""
    word = word_in(prompt.replace("user:", " "))
    if "a word" in prompt:
        return {"one": "No", "two": "No", "three": "Hm"}.get(word, "Yes")
    copy = "here. Is" not in prompt
    return {("one", False): "Hm", ("two", True): "Hm", ("three", True): "No"}.get((word, copy), "Yes")


def score(context, continuation):
    """p(yes) rises by "really" but for eight."""
    really, rises = "really" in context, word_in(context.replace("user:", " ")) != "eight"
    return math.log(0.6 if really == rises else 0.5) if continuation == "Yes" else math.log(0.4)


@pytest.fixture
def model():
    return ScriptedModel(say, score)


@pytest.fixture
def run(model, suite):
    return run_suite(model, suite, "first")


def cells(run):
    return {cell.capability: cell for cell in matrix([run])}


def test_cases_come_out_by_hand(run):
    found = cells(run)
    words, stops, odds = (found[name] for name in ("vocabulary", "robustness", "logic"))
    assert (words.passed, words.failed, words.unparsed, words.filtered) == (5, 2, 1, 0)
    assert (stops.passed, stops.failed, stops.unparsed, stops.filtered) == (5, 1, 1, 1)
    assert (odds.passed, odds.failed, odds.unparsed, odds.filtered) == (7, 1, 0, 0)


def test_the_failure_rate_leaves_out_what_could_not_be_judged(run):
    words = cells(run)["vocabulary"]
    assert words.failure.value == pytest.approx(2 / 7)
    assert words.failure.n == 7
    # Wilson, z = 1.96: centre (2/7 + 3.8416/14)/(1 + 3.8416/7) = 0.3617, half 0.2796.
    assert (words.failure.low, words.failure.high) == (pytest.approx(0.0822, abs=1e-3), pytest.approx(0.6411, abs=1e-3))
    assert words.failure_at_most == pytest.approx(3 / 8)


def test_no_judged_case_is_no_rate(suite):
    mumbling = run_suite(ScriptedModel(lambda prompt, sample: "Hm", score), suite)
    words, stops = cells(mumbling)["vocabulary"], cells(mumbling)["robustness"]
    assert (words.failure.value, words.unparsed, words.failure_at_most) == (None, 8, 1.0)
    assert (stops.failure.value, stops.filtered, stops.failure_at_most) == (None, 8, None)
    assert "no case could be judged; 8 filtered" in text_of_lines(matrix_lines([mumbling]))


def text_of_lines(lines):
    return "\n".join(f"{head} {rest}" for head, rest in lines)


def test_every_example_is_asked_once(model, suite, run):
    # 8 of words, 8 + 8 of stops; 16 prompts with two continuations.
    assert len(model.requests) == 24
    assert len(model.pairs) == 32
    assert {request.temperature for request in model.requests} == {0.0}
    assert {request.max_tokens for request in model.requests} == {16}


def test_examples_that_read_alike_are_asked_once(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text(yaml.safe_dump({"lexicons": {"w": WORDS}, "tests": [MFT, {**MFT, "name": "again"}]}))
    model = ScriptedModel(say)
    found = run_suite(model, read_suite(path))
    assert len(model.requests) == len({request.prompt for request in model.requests}) == 8
    assert len(found.results) == 16


def test_failing_examples_are_shown_with_the_original(run):
    shown = cells(run)["robustness"].examples[0]
    assert (shown.text, shown.output) == ("three is here Is it?", "No")
    assert (shown.change, shown.original, shown.original_output) == ("punctuation", "three is here. Is it?", "Yes")
    (unread,) = cells(run)["robustness"].unread
    assert (unread.text, unread.output) == ("two is here Is it?", "Hm")
    words = cells(run)["vocabulary"].examples
    assert {one.text for one in words} == {"Is one a word?", "Is two a word?"}
    assert {(one.output, one.expected, one.original) for one in words} == {("No", "yes", None)}


def test_three_examples_at_most_and_those_of_all_tests_first(tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text(
        yaml.safe_dump({"lexicons": {"w": WORDS}, "tests": [MFT, {**MFT, "name": "b"}, {**MFT, "name": "c"}]})
    )
    found = run_suite(ScriptedModel(lambda prompt, sample: "No"), read_suite(path))
    (cell,) = matrix([found])
    assert cell.failed == 24
    assert [one.test for one in cell.examples] == ["words", "b", "c"]


def test_outcomes_for_comparison(run, model, suite, tmp_path):
    outcomes = behaviour_outcomes(model, run, "r")
    write_outcomes(tmp_path / "outcomes.parquet", outcomes)
    assert read_outcomes(tmp_path / "outcomes.parquet") == outcomes
    by_name = {}
    for one in outcomes:
        by_name.setdefault(one.slices["test"], []).append(one)
    words, stops = by_name["words"], by_name["stops"]
    assert sorted((one.status, one.score) for one in words) == [("ok", 0.0)] * 2 + [("ok", 1.0)] * 5 + [
        ("parse_failed", 0.0)
    ]
    assert sorted(one.status for one in stops) == ["ok"] * 6 + ["parse_failed", "unscored"]
    assert next(one.score for one in stops if one.status == "unscored") is None
    one = stops[0]
    assert one.task == "behaviour/robustness/INV/stops"
    assert one.slices == {"capability": "robustness", "type": "INV", "test": "stops"}
    assert one.cluster == "behaviour/robustness/INV/stops/0"
    assert one.prompt.count("\n---\n") == one.output.count("\n---\n") == 1
    assert one.prompt_ids == tuple(one.prompt.split("\n---\n")[0].encode())
    assert len({one.item for one in outcomes}) == len(outcomes)


def test_flips_of_two_checkpoints_by_hand(run, suite):
    better = run_suite(ScriptedModel(lambda prompt, sample: "Yes", score), suite, "second")
    words, stops, odds = compare_runs(better, run)
    # words: one and two were wrong, three was unreadable; stops: three flipped, two was unreadable, one is filtered.
    assert (words.flips.gained, words.flips.lost, words.cases, words.unparsed) == (3, 0, 8, (0, 1))
    assert (stops.flips.gained, stops.flips.lost, stops.cases, stops.filtered) == (2, 0, 7, 1)
    assert (odds.flips.gained, odds.flips.lost) == (0, 0)
    # McNemar: 2·½³ = 0.25, 2·½² = 0.5, 1; Holm over three: 0.75, 1, 1.
    assert words.flips.p_value == pytest.approx(0.25)
    assert [one.adjusted_p for one in (words, stops, odds)] == pytest.approx([0.75, 1.0, 1.0])
    assert words.word == "undecided"
    expected = paired_difference([1] * 8, [0, 0, 0, 1, 1, 1, 1, 1])
    assert words.difference == expected
    assert change_text(words).startswith("vocabulary MFT words: undecided: gained 3, lost 0 of 8, +38 points [")
    text = text_of_lines(comparison_lines(better, run))
    assert "second against first (Holm over 3 tests)" in text
    assert "1 tests without a flip: no difference seen, which is not proof of none" in text


def test_a_clear_change_has_its_word(suite, run):
    yes = run_suite(ScriptedModel(lambda prompt, sample: "Yes", score), suite, "yes")
    no = run_suite(ScriptedModel(lambda prompt, sample: "No", score), suite, "no")
    # 8 lost of 8: 2·½⁸ = 0.0078, Holm ·3 = 0.023.
    words = compare_runs(no, yes)[0]
    assert (words.flips.lost, words.word) == (8, "worse")
    assert words.adjusted_p == pytest.approx(3 * 2 / 2**8)
    assert compare_runs(yes, no)[0].word == "better"


def test_runs_without_a_common_case_are_not_compared(tmp_path, run):
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump({"lexicons": {"w": WORDS}, "tests": [{**MFT, "name": "other"}]}))
    other = run_suite(ScriptedModel(say), read_suite(path), "other")
    with pytest.raises(ValueError, match="other and first have no case in common"):
        compare_runs(other, run)


def test_json_and_lines_say_the_same(run, suite):
    better = run_suite(ScriptedModel(lambda prompt, sample: "Yes", score), suite, "second")
    found = json.loads(json.dumps(report_json([run, better])))
    assert [one["name"] for one in found["checkpoints"]] == ["first", "second"]
    assert len(found["matrix"]) == len(found["tests"]) == 6
    assert found["comparisons"][0]["tests"][0]["flips"]["gained"] == 3
    assert found["comparisons"][0]["tests"][0]["word"] == "undecided"
    text = text_of_lines(matrix_lines([run, better]))
    assert "first: 2 of 7 failed = 29% [8, 64]; 1 without a readable answer, so at most 38%" in text
    assert "second: 0 of 8 failed = 0% [0, 32]" in text
    assert "first: 17 passed, 4 failed, 2 unparsed, 1 filtered" in text
    assert "not read: words: “Is three a word?” → “Hm”" in text
    assert "(punctuation; before: “three is here. Is it?” → “Yes”)" in text


def test_progress_counts_all_that_is_asked(suite):
    told = []

    class Telling(ScriptedModel):
        def generate_until(self, requests, progress=None):
            progress(len(requests), len(requests))
            return super().generate_until(requests)

        def loglikelihood(self, pairs, progress=None):
            progress(len(pairs), len(pairs))
            return super().loglikelihood(pairs)

    run_suite(Telling(say, score), suite, progress=lambda done, total: told.append((done, total)))
    assert told == [(24, 56), (56, 56)]


def test_cells_of_tests_are_those_of_the_matrix_here(run):
    assert [cell.failed for cell in by_test([run])] == [cell.failed for cell in matrix([run])] == [2, 1, 1]
