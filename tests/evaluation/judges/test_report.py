import json
import math

import pytest

from tests.evaluation.judges.cases import FunctionJudge, by_content, longer, pair
from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.evaluation.judges.model_judge import LikelihoodJudge
from trimpot.evaluation.judges.report import JudgeSettings, judge_report, rate_models


def good_pairs(count=40):
    """B is right in 3 of 4; lengths say nothing."""
    right, wrong = "right answer", "other answer"
    return [pair(n, a=(wrong, wrong, wrong, right)[n % 4], b=(right, right, right, wrong)[n % 4]) for n in range(count)]


def report(judge, pairs, **settings):
    return judge_report(judge, ("A", "B"), pairs, JudgeSettings(**settings))[0]


def test_a_judge_that_reads_is_usable():
    found = report(FunctionJudge(by_content), good_pairs())
    assert found.usable
    assert found.win_rate.raw.value == 0.75
    assert found.win_rate.win_rate.value == pytest.approx(0.75)
    assert (found.counts, found.ties.value) == ({"ok": 40}, 0.0)
    assert (found.bias.direction, found.spread) == ("none", None)
    assert len(found.baselines) == 3


def test_a_judge_that_counts_characters_is_unusable_for_two_reasons():
    pairs = [pair(n, a="w" * (n % 9 + 1), b="w" * (n % 7 + 2)) for n in range(80)]
    found = report(FunctionJudge(longer), pairs)
    assert not found.usable
    text = " ".join(found.faults)
    assert "constant answer" in text
    assert "the longer answer wins 100%" in text


def test_a_language_model_that_likes_the_letter_a_is_unusable():
    model = ScriptedModel(score=lambda context, letter: -1.0 if letter == "A" else -1.5)
    found = report(LikelihoodJudge(model), good_pairs())
    assert not found.usable
    assert (found.bias.rate.value, found.bias.direction, found.ties.value) == (1.0, "first", 1.0)
    assert any("the order decides" in fault for fault in found.faults)
    assert any("copy of the prompt: wins 50%" in fault for fault in found.faults)


def test_a_language_model_that_knows_the_answer_is_usable_despite_a_lean_to_a():
    def score(context, letter):
        shown = context.split(f"[Answer {letter}]")[1].split("[End")[0]
        return 1.0 * ("right" in shown) + 0.3 * (letter == "A")

    found = report(LikelihoodJudge(ScriptedModel(score=score)), good_pairs())
    assert found.usable
    assert found.win_rate.raw.value == 0.75
    assert found.bias.rate.value == 0.0


def test_pairs_without_verdicts_are_counted_and_too_many_are_a_fault():
    few = report(FunctionJudge(lambda q, d: None if q.pair.item == "item 1" else by_content(q)), good_pairs())
    assert few.counts == {"ok": 39, "parse_failed": 1}
    assert few.usable
    most = report(FunctionJudge(lambda q, d: by_content(q) if "right" not in q.pair.b else None), good_pairs())
    assert any("only 10 of 40 pairs have a verdict" in fault for fault in most.faults)


def test_repeats_and_difficulty_go_into_the_report():
    pairs = [pair(n, a="x", b="right" if n % 3 else "y", slices={"level": str(n % 4)}) for n in range(24)]
    found = report(FunctionJudge(by_content, temperature=1.0), pairs, draws=2, difficulty="level", probes=0)
    assert (found.spread.draws, found.spread.variance.value) == (2, 0.0)
    assert found.win_rate.difficulty is not None
    assert found.baselines == ()
    with pytest.raises(UsageError, match="has no slice 'nothing'"):
        report(FunctionJudge(by_content), pairs, difficulty="nothing")
    named = [pair(1, slices={"level": "hard"})]
    with pytest.raises(UsageError, match="slice level is 'hard', not a number"):
        report(FunctionJudge(by_content), named, difficulty="level")


def test_a_report_is_json_without_values_that_json_does_not_have():
    found = report(FunctionJudge(by_content), good_pairs())
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(text)["usable"] is True


def test_nothing_to_judge_is_one_line():
    with pytest.raises(UsageError, match="A and B: share no answer with text"):
        report(FunctionJudge(by_content), [])


def test_three_models_are_rated_over_prompts():
    def duel(a, b):
        answers = {"good": ["right"] * 16, "half": ["right", "x"] * 8, "poor": ["x"] * 14 + ["right"] * 2}
        pairs = [pair(n, a=answers[a][n] + " a", b=answers[b][n] + " b") for n in range(16)]
        return judge_report(FunctionJudge(by_content), (a, b), pairs, JudgeSettings(probes=0))[1]

    names = ("poor", "half", "good")
    duels = {(a, b): duel(a, b) for i, a in enumerate(names) for b in names[i + 1 :]}
    ratings = rate_models(duels, 0, draws=200)
    assert [one.name for one in ratings] == ["good", "half", "poor"]
    # good beats half in 8, ties 8: 12 of 16; beats poor in 14, ties 2: 15 of 16.
    assert ratings[0].mean_win_rate == pytest.approx((12 / 16 + 15 / 16) / 2)
    assert ratings[0].elo.n == 16
    assert math.isclose(sum(one.strength.value for one in ratings), 0, abs_tol=1e-6)


def test_a_verdict_in_one_order_alone_leaves_the_pair_unscored():
    judge = FunctionJudge(lambda question, draw: None if question.swapped else 1.0, reads_anything=False)
    found = report(judge, good_pairs(4))
    assert found.counts == {"parse_failed": 4}
    assert found.win_rate.raw.value is None
