"""HELM's metrics, against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.helm.outcomes import outcome
from trimpot.evaluation.helm.bias import association, bias_cell, bias_score, bias_words, representation
from trimpot.evaluation.helm.calibration import calibration_cell, chance_error, selective_accuracy
from trimpot.evaluation.helm.efficiency import efficiency_cell
from trimpot.evaluation.helm.worst_case import worst_case_cell


def test_selective_accuracy_by_hand():
    found = selective_accuracy([0.9, 0.8, 0.7], [1, 0, 1])
    assert found.area == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert found.at_tenth is None


def test_accuracy_of_the_surest_tenth():
    # 20 answers: A at k = 2; the surest two are right and wrong.
    assert selective_accuracy([1 - n / 100 for n in range(20)], [1, 0] + [1] * 18).at_tenth == 0.5


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30), st.randoms())
@settings(max_examples=60)
def test_selective_accuracy_does_not_depend_on_the_order_of_ties(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    first, second = (selective_accuracy(*zip(*some, strict=True)) for some in (pairs, shuffled))
    assert first.area == pytest.approx(second.area)
    # The last A_k is the accuracy, and a constant confidence has A_k = accuracy for all k.
    level = selective_accuracy([0.5] * len(pairs), [right for _, right in pairs])
    assert level.area == pytest.approx(np.mean([right for _, right in pairs]))


def test_ece_of_ten_equal_mass_bins_by_hand():
    # 20 answers, two in each bin: confidences 0.05, 0.05, 0.15, 0.15 …; all right: Σ (2/20)·(1 − c) = 1 − 0.5.
    some = [outcome(n, 1.0, confidence=0.05 + 0.1 * (n // 2)) for n in range(20)]
    cell = calibration_cell("t", some)
    assert cell.value.value == pytest.approx(0.5)
    assert cell.better == "lower"
    assert cell.details["answers"] == 20
    assert "below 300" in cell.notes[0]


def test_300_answers_are_enough_for_no_warning():
    assert calibration_cell("t", [outcome(n, 1.0, confidence=0.9) for n in range(300)]).notes == ()


def test_perturbed_forms_and_unknown_confidences_are_no_part_of_calibration():
    some = [outcome(1, 1.0, confidence=0.8), outcome(1, 0.0, perturbation="typos", confidence=0.8), outcome(2, 1.0)]
    cell = calibration_cell("t", some)
    assert (cell.details["answers"], cell.details["left_out"]) == (1, 1)
    assert cell.value.value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("some", "reason"),
    [
        ([outcome(1, 1.0)], "no confidence is known"),
        ([outcome(1, 3.0, confidence=0.5)], "scores are not in [0, 1]"),
        ([outcome(1, None, confidence=0.5)], "no answer is right or wrong"),
        ([outcome(1, 1.0, better="lower", confidence=0.5)], "no answer is right or wrong"),
    ],
)
def test_calibration_says_why_it_was_not_measured(some, reason):
    assert calibration_cell("t", some).reason == reason


def test_a_calibrated_model_errs_as_chance_does():
    generator = np.random.default_rng(0)
    p = generator.random(2000)
    right = generator.random(2000) < p
    cell = calibration_cell(
        "t", [outcome(n, float(y), confidence=float(c)) for n, (c, y) in enumerate(zip(p, right, strict=True))]
    )
    assert cell.value.value < 2 * cell.details["ece_by_chance"]
    assert chance_error([0.0, 1.0, 1.0], 0) == 0
    assert chance_error([], 0) is None


def test_the_worst_case_is_the_minimum_by_item():
    some = [
        *(outcome(n, 1.0) for n in range(4)),
        outcome(0, 0.0, perturbation="mild_mix"),
        outcome(1, 1.0, perturbation="mild_mix"),
        outcome(1, 0.0, perturbation="typos"),
        outcome(2, 0.0, perturbation="dialect"),
    ]
    robustness, fairness = (worst_case_cell("t", group, some) for group in ("robustness", "fairness"))
    # Worst scores 0, 0, 1, 1 and 1, 1, 0, 1; unperturbed all 1.
    assert robustness.value.value == 0.5
    assert fairness.value.value == 0.75
    assert robustness.details["unperturbed"]["value"] == 1.0
    assert robustness.details["perturbations"]["mild_mix"]["score"]["value"] == 0.5
    assert robustness.details["perturbations"]["typos"]["change"]["value"] == -1.0
    assert list(robustness.details["perturbations"]) == ["mild_mix", "typos"]
    assert (robustness.details["items"], robustness.details["items_with_a_form"]) == (4, 2)


def test_the_worst_case_is_the_maximum_where_lower_is_better():
    # HELM's own code takes the minimum here, 1.
    some = [outcome(1, 2.0, better="lower"), outcome(1, 3.0, perturbation="typos", better="lower")]
    some.append(outcome(1, 1.0, perturbation="lowercase", better="lower"))
    assert worst_case_cell("t", "robustness", some).value.value == 3.0


def test_samples_of_a_form_are_averaged_before_the_worst():
    some = [outcome(1, 1.0, sample=n) for n in range(2)]
    some += [outcome(1, float(n), perturbation="typos", sample=n) for n in range(2)]
    assert worst_case_cell("t", "robustness", some).value.value == 0.5


def test_an_item_without_a_score_is_left_out_and_a_form_without_one_is_none():
    some = [outcome(1, None), outcome(1, 0.0, perturbation="typos"), outcome(2, 1.0)]
    some += [outcome(2, None, perturbation="typos"), outcome(2, 1.0, perturbation="lowercase")]
    cell = worst_case_cell("t", "robustness", some)
    assert (cell.value.value, cell.details["items"], cell.details["left_out"]) == (1.0, 1, 1)


def test_tasks_without_forms_are_no_part_of_the_worst_case():
    some = [outcome(1, 1.0), outcome(1, 1.0, perturbation="typos"), outcome(2, 0.0, task="t/other")]
    assert worst_case_cell("t", "robustness", some).value.value == 1.0


def test_without_forms_robustness_is_not_measured():
    cell = worst_case_cell("t", "robustness", [outcome(1, 1.0)])
    assert (cell.measured, cell.reason) == (False, "no item has a perturbed form with a score")


@pytest.mark.parametrize(
    ("counts", "sizes", "score"),
    [
        ([3, 1], [20, 20], 0.25),
        ([1, 0, 0], [20, 16, 20], 2 / 3),
        # Rates 0.1, 0.25, 0: p = 2/7, 5/7, 0; ½·(|1/3 − 2/7| + |1/3 − 5/7| + 1/3) = 8/21.
        ([2, 4, 0], [20, 16, 20], 8 / 21),
        ([5, 5], [20, 20], 0.0),
        ([0, 0], [20, 20], None),
    ],
)
def test_bias_is_the_total_variation_from_even_shares(counts, sizes, score):
    assert bias_score(counts, sizes) == (None if score is None else pytest.approx(score))


def test_representation_counts_words_of_the_lists():
    found = representation(["She's met her mother; HE left.", "the herd"], "gender")
    assert found.counts == {"female": 3, "male": 1}
    assert found.score == pytest.approx(0.25)


def test_association_is_the_mean_over_target_words():
    # nurse: female 1 + 1, male 0 + 1: ½·(1/6 + 1/6) = 1/6. doctor: male only: 1/2. Mean 1/3.
    texts = ["she is a nurse", "he and she saw a nurse", "he is a doctor", "a lawyer came"]
    found = association(texts, "gender", "profession")
    assert found.score == pytest.approx((1 / 6 + 1 / 2) / 2)
    assert (found.counts, found.targets) == ({"female": 2, "male": 2}, 2)


def test_a_word_counted_twice_counts_by_its_pairs():
    # One text: female 2 words, nurse twice: 4 pairs.
    assert association(["she and her nurse, a nurse"], "gender", "profession").counts == {"female": 4, "male": 0}


def test_nothing_counted_is_none():
    assert representation(["a tree"], "race").score is None
    assert association(["she ran"], "gender", "adjective").score is None


def test_what_an_even_model_shows_by_chance():
    # One word is always one-sided: ½. Of two, half the time one-sided: ¼.
    assert representation(["she"], "gender").by_chance == pytest.approx(0.5)
    assert representation(["she he"], "gender").by_chance == pytest.approx(0.25, abs=0.02)


def test_the_lists_are_helms():
    sizes = {group: len(words) for group, words in {**bias_words()["gender"], **bias_words()["race"]}.items()}
    assert sizes == {"female": 20, "male": 20, "asian": 20, "hispanic": 16, "white": 20}
    assert (len(bias_words()["adjective"]), len(bias_words()["profession"])) == (422, 288)


def test_bias_says_why_it_was_not_measured():
    assert bias_cell("t", [outcome(1, 1.0, output="she")]).reason == "no text was generated"
    assert bias_cell("t", [outcome(1, 1.0, output="a tree", tokens=2)]).reason == "no word of any group in 1 texts"
    assert bias_cell("t", [outcome(1, 1.0, output="she", tokens=2)]).value.value == 0.5


def test_race_is_the_value_where_no_gender_word_was_counted():
    cell = bias_cell("t", [outcome(1, None, output="Mr. Kim", metric_group="bias")])
    assert (cell.metric, cell.value.value) == ("race representation", pytest.approx(2 / 3))


def test_efficiency_by_hand():
    some = [outcome(1, tokens=10, seconds=1.0), outcome(2, tokens=30, seconds=3.0, perturbation="typos")]
    cell = efficiency_cell("t", some, 100.0)
    assert cell.value.value == 2.0
    assert (cell.details["generated_tokens"], cell.details["seconds"], cell.details["flops"]) == (40, 4.0, 4000.0)


def test_unknown_tokens_seconds_and_flops_are_none():
    assert efficiency_cell("t", [outcome(1, seconds=1.0)], 100.0).details["flops"] is None
    assert efficiency_cell("t", [outcome(1, tokens=5)], None).details["flops"] is None
    assert efficiency_cell("t", [outcome(1, tokens=5)], None).metric == "generated tokens per answer"
    assert efficiency_cell("t", [outcome(1)], 1.0).reason == "neither seconds nor tokens are known"
