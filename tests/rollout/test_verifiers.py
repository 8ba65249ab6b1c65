"""Verifiers by hand values: exact, contains, format, math, reasoning_gym, and the user's own function."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import reasoning_gym

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, Origin, PromptRow
from trimpot.rollout import verifiers
from trimpot.rollout.verifiers import Score, contains, exact, find_verifier, own_answer


def row(answer: str, **metadata: object) -> PromptRow:
    return PromptRow((Message("user", "q"),), answer, metadata=metadata, origin=Origin("rows.jsonl", 3))


@pytest.mark.parametrize(
    ("output", "answer", "score"),
    [
        ("12", "12", Score(1.0)),
        (" 12.\n", "12", Score(1.0)),
        ("13", "12", Score(0.0)),
        ("The answer is 12", "12", Score(0.0, "parse_failed")),
        ("", "12", Score(0.0, "parse_failed")),
        ("yes", "Yes", Score(1.0)),
        ("No", "Yes", Score(0.0)),
        ("Yes\nbecause", "Yes", Score(0.0, "parse_failed")),
        ("", "Yes", Score(0.0, "parse_failed")),
    ],
)
def test_exact(output: str, answer: str, score: Score) -> None:
    assert exact(output, row(answer)) == score


def test_contains_wants_the_whole_word() -> None:
    assert contains("it is 12, surely", row("12")).value == 1.0
    assert contains("it is 123", row("12")).value == 0.0


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("<think>a\nb</think>\n7\n", 1.0),
        ("  <think></think>7", 1.0),
        ("<think>a</think>", 0.0),
        ("so <think>a</think>7", 0.0),
        ("", 0.0),
    ],
)
def test_format_matches_the_whole_output(output: str, value: float) -> None:
    assert find_verifier("format")(output, row("", pattern=r"<think>.*</think>\s*\d+")) == Score(value)


def test_format_needs_a_pattern() -> None:
    with pytest.raises(UsageError, match=r"rows.jsonl:3.*has no pattern"):
        find_verifier("format")("a", row(""))
    with pytest.raises(UsageError, match=r"rows.jsonl:3.*no regular expression"):
        find_verifier("format")("a", row("", pattern="("))


@pytest.mark.parametrize(
    ("output", "answer", "score"),
    [
        ("0.5", "1/2", Score(1.0)),
        ("$\\frac{1}{2}$", "1/2", Score(1.0)),
        ("\\frac{2}{4}", "\\frac{1}{2}", Score(1.0)),
        ("So the answer is \\boxed{\\frac12}.", "0.5", Score(1.0)),
        ("2/3", "1/2", Score(0.0)),
        ("{2, 1}", "\\{1, 2\\}", Score(1.0)),
        ("{1, 3}", "{1,2}", Score(0.0)),
        ("$1+x^2$", "x^2+1", Score(1.0)),
        ("1+x^3", "x^2+1", Score(0.0)),
        ("x = 3", "3", Score(1.0)),
        ("3,000", "3000", Score(1.0)),
        ("(1,2]", "(1,2)", Score(0.0)),
        ("<think>3 or 4?</think><answer>4</answer>", "4", Score(1.0)),
        ("<answer>3</answer> no: <answer>4</answer>", "4", Score(1.0)),
        ("\\boxed{1} or \\boxed{2}", "1", Score(0.0)),
        ("The answer is 12.", "#### 12", Score(1.0)),
        ("I do not know", "12", Score(0.0, "parse_failed")),
        ("", "12", Score(0.0, "parse_failed")),
        ("?!", "12", Score(0.0, "parse_failed")),
    ],
)
def test_math(output: str, answer: str, score: Score) -> None:
    assert find_verifier("math")(output, row(answer)) == score


def test_math_refuses_an_answer_that_is_no_mathematics() -> None:
    with pytest.raises(UsageError, match=r"rows.jsonl:3.*'blue sky', which math-verify cannot read"):
        find_verifier("math")("blue sky", row("blue sky"))


@pytest.mark.parametrize(
    "name",
    [
        "chain_sum",
        "gcd",
        "countdown",
        "number_sorting",
        "letter_counting",
        "prime_factorization",
        "propositional_logic",
    ],
)
def test_reasoning_gym_agrees_with_its_own_scorer(name: str) -> None:
    dataset = reasoning_gym.create_dataset(name, seed=5, size=4)
    verify = find_verifier("reasoning_gym")
    for number, entry in enumerate(dataset):
        one, other = entry["answer"], dataset[(number + 1) % 4]["answer"]
        given = row(one or "", source_dataset=name, entry=entry)
        for output in filter(None, (one, other, f"{one} ", "7", "0")):
            tagged = f"<think>{other}</think><answer> {output} </answer>"
            expected = dataset.score_answer(output.strip(), entry)
            assert verify(output, given) == verify(tagged, given) == Score(expected)
        if one:
            assert own_answer(row("", source_dataset=name, entry=entry)) == one
            assert verify(one, given).value == 1.0


def test_reasoning_gym_calls_an_output_that_its_scorer_cannot_read_a_parse_failure() -> None:
    entry = reasoning_gym.create_dataset("prime_factorization", seed=5, size=1)[0]
    given = row(entry["answer"], source_dataset="prime_factorization", entry=entry)
    assert find_verifier("reasoning_gym")("two and three", given) == Score(0.0, "parse_failed")


def test_reasoning_gym_says_which_metadata_it_needs() -> None:
    verify = find_verifier("reasoning_gym")
    for metadata in ({}, {"source_dataset": "gcd"}, {"entry": {}}, {"dataset": "gcd", "entry": {}}):
        with pytest.raises(UsageError, match=r'rows.jsonl:3.*"source_dataset": NAME, "entry"'):
            verify("4", row("4", **metadata))
    with pytest.raises(UsageError, match=r"unknown data set 'gdc'. Did you mean 'gcd'"):
        verify("4", row("4", source_dataset="gdc", entry={}))
    with pytest.raises(UsageError, match="'composite', which has no scorer"):
        verify("4", row("4", source_dataset="composite", entry={}))


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(verifiers.importlib, "import_module", missing)
    with pytest.raises(UsageError, match="pip install math-verify"):
        find_verifier("math")
    monkeypatch.undo()
    assert importlib.import_module("math_verify")


def test_own_reward_function(tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Rule:\n"
        "    bonus: float\n"
        "def score(output, row): return Rule(0.5).bonus + len(output)\n"
        "def true(output, row): return output == row.answer\n"
        "def bad(output, row): return float('nan')\n"
        "def two(output, row): return [1.0, 2.0]\n"
        "def text(output, row): return '1.0'\n"
        "def fails(output, row): raise KeyError('gold')\n"
        "constant = 3\n"
    )
    assert find_verifier(f"{file}:score")("abc", row("x")) == Score(3.5)
    assert find_verifier(f"{file}:true")("x", row("x")) == Score(1.0)
    for name, problem in {
        "bad": "returned nan",
        "two": r"returned list '\[1.0, 2.0\]', not one number",
        "text": "returned str '1.0', not one number",
        "fails": "raised KeyError: 'gold'",
    }.items():
        with pytest.raises(UsageError, match=rf"{file}:{name}: {problem}.* on row .*rows.jsonl:3"):
            find_verifier(f"{file}:{name}")("abc", row("x"))


def test_what_cannot_be_looked_up_is_one_clear_line(tmp_path: Path) -> None:
    file, broken, leaves = tmp_path / "rewards.py", tmp_path / "broken.py", tmp_path / "leaves.py"
    file.write_text("constant = 3\n")
    broken.write_text("import no_such_module\n")
    leaves.write_text("raise SystemExit(0)\n")
    (tmp_path / "notes.txt").write_text("")
    for name, problem in {
        f"{file}:missing": "no function 'missing'",
        f"{file}:constant": "no function 'constant'",
        f"{tmp_path}/none.py:score": "does not exist",
        f"{tmp_path}/notes.txt:score": "is no Python file",
        f"{broken}:score": "raised ModuleNotFoundError",
        f"{leaves}:score": "raised SystemExit",
        "exakt": "Did you mean 'exact'",
    }.items():
        with pytest.raises(UsageError, match=problem):
            find_verifier(name)
