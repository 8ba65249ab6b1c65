"""A real small model as the judge: the report must say that it cannot judge."""

import pytest

from trimpot.evaluation.judges.model_judge import LikelihoodJudge
from trimpot.evaluation.judges.pairs import AnswerPair
from trimpot.evaluation.judges.report import JudgeSettings, judge_report

pytestmark = pytest.mark.slow

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Germany": "Berlin", "Egypt": "Cairo",
    "Russia": "Moscow", "China": "Beijing", "Greece": "Athens", "Norway": "Oslo", "Poland": "Warsaw", "Cuba": "Havana",
    "Peru": "Lima", "Canada": "Ottawa", "Austria": "Vienna", "Ireland": "Dublin",
}  # fmt: skip


def test_a_model_of_135m_prefers_what_is_shown_first_and_is_marked_unusable():
    from trimpot.evaluation.local import LocalModel
    from trimpot.models.load import load

    towns = list(CAPITALS.values())
    pairs = []
    for number, (land, town) in enumerate(CAPITALS.items()):
        wrong, right = (f"The capital of {land} is {one}." for one in (towns[(number + 5) % 16], town))
        pairs.append(AnswerPair("capitals", land, f"What is the capital of {land}?", wrong, right))
    judge = LikelihoodJudge(LocalModel(load("smollm2-135m")))
    report, _ = judge_report(judge, ("wrong", "right"), pairs, JudgeSettings(probes=6))
    assert not report.usable
    assert report.bias.direction == "first"
    assert report.bias.rate.low > 0.5
    assert report.win_rate.raw.value < 0.75
