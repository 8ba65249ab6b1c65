"""The cards as shipped: they pass their check, fit ten lines, and every problem the check knows is found."""

import json
import re
from pathlib import Path

import pytest
import typer

from trimpot import knobs
from trimpot.cli import knobs as commands
from trimpot.core.errors import UsageError
from trimpot.detectors import DETECTORS
from trimpot.detectors import rates as rates_module
from trimpot.detectors.rates import DetectorRate, settings_of, write_rate
from trimpot.knobs.check import HOUSEKEEPING, UNDETECTED, check_cards, missing_settings
from trimpot.knobs.keys import ELSEWHERE, as_written, closest, covers
from trimpot.knobs.library import Library, library, read_library
from trimpot.knobs.schema import Statement
from trimpot.knobs.status import UNTESTED, claim_statuses
from trimpot.knobs.text import card_lines
from trimpot.studies import STUDIES

MARGINS = [claim for study in STUDIES.values() for claim in study.margins]
CARDS = {name: kind().card for name, kind in DETECTORS.items()}
MEASURED = dict.fromkeys(DETECTORS, "100/100, clean 0/100")


def check(changed, **options):
    known = {"detectors": CARDS, "recipe_defaults": commands.recipe_defaults(), "studies": STUDIES, "margins": MARGINS}
    return check_cards(changed, **{**known, **options}, evidence_folders=())


def with_card(path="dpo.beta", **changes):
    """The library with one card changed."""
    base = library()
    card = base.cards[path].model_copy(update=changes)
    return Library(base.sources, base.claims, {**base.cards, path: card})


def without_card(path):
    base = library()
    return Library(base.sources, base.claims, {name: card for name, card in base.cards.items() if name != path})


def test_the_shipped_cards_have_no_problem():
    assert check(library()) == []
    assert "dpo.beta" in library().cards


@pytest.mark.parametrize("rates", [None, MEASURED], ids=["unmeasured", "measured"])
@pytest.mark.parametrize("whose", ["shipped", "none"])
@pytest.mark.parametrize("path", sorted(library().cards))
def test_a_card_has_at_most_ten_lines_of_a_hundred_characters(path, whose, rates, tmp_path):
    known = library()
    card = known.cards[path]
    places = {"own": tmp_path} if whose == "shipped" else {"own": tmp_path, "shipped": tmp_path}
    statuses = claim_statuses(card.claims, known, **places)
    lines = [f"{head or ' '} {rest}" for head, rest in card_lines(card, known, statuses, rates)]
    assert len(lines) <= 10
    assert [line for line in lines if len(line) > 100] == []
    text = "\n".join(lines)
    for question in ("what knob is it?", "When does it fail?", "Which metric does it move?", "Sources:"):
        assert question in text


def test_every_detector_has_its_card_and_the_check_finds_one_that_has_not():
    assert set(CARDS.values()) <= library().cards.keys()
    for name, path in CARDS.items():
        assert f"detector {name}: its card {path!r} is missing" in check(without_card(path))


def test_every_detector_watches_a_failure_of_some_card():
    named = {mode.detector for card in library().cards.values() for mode in card.fails_when}
    assert named - {UNDETECTED} == DETECTORS.keys()


STANDARD = (
    "sft.mask", "sft.packing", "sft.epochs", "lora.rank", "trainable.set", "reward.center", "reward.label_noise",
    "dpo.beta", "dpo.loss", "dpo.label_smoothing", "grpo.group", "grpo.kl", "grpo.normalisation", "grpo.clip",
    "sampling.temperature", "best_of.n", "optimizer.learning_rate", "optimizer.batch_size", "optimizer.schedule",
    "schedule.warmup", "precision", "recompute", "eval.items", "eval.template", "eval.seed", "judge.order",
    "judge.length", "perturbation.strength",
)  # fmt: skip
"""Knobs under the names the field calls them by."""


@pytest.mark.parametrize("path", STANDARD)
def test_a_knob_is_found_under_its_standard_name(path):
    card = library().card(path)
    assert card.path == path
    assert card.fails_when
    assert card.moves


@pytest.mark.parametrize("package", ["objectives", "detectors"])
def test_docstrings_name_cards_that_exist(package):
    texts = [file.read_text() for file in (Path(knobs.__file__).parents[1] / package).rglob("*.py")]
    found = [named for text in texts for named in re.findall(r"see cards? ((?:[a-z_.]+(?:, | and )?)+)", text)]
    names = {name.rstrip(".") for named in found for name in re.split(r", | and ", named) if name}
    assert len(names) >= 8
    assert names <= library().cards.keys()


def test_an_unknown_card_names_the_nearest(capsys):
    with pytest.raises(UsageError, match=r"Did you mean 'dpo\.beta'"):
        commands.card("dpo.bta", check=False, json=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"core_source": "nobody"}, "core_source 'nobody' is unknown"),
        ({"claims": ("no-claim",)}, "claim 'no-claim' is unknown"),
        ({"recipe": "preference.dpo.betta"}, "'preference.dpo.betta' is not a key of a recipe"),
        ({"what": Statement(text="Take 0.1.")}, "has a number with neither source nor claim"),
        ({"what": Statement(text="Take 0.1.", source="nobody")}, "source 'nobody' is unknown"),
        ({"what": Statement(text="Take 0.1.", claim="no-claim")}, "claim 'no-claim' is unknown"),
    ],
)
def test_the_check_finds_what_is_wrong(changes, words):
    assert any(words in problem for problem in check(with_card(**changes)))


def test_the_check_finds_a_default_that_is_not_the_recipes_or_has_no_origin():
    default = library().cards["dpo.beta"].default
    wrong = check(with_card(default=default.model_copy(update={"value": 0.2})))
    assert wrong == ["card dpo.beta: the default of preference.dpo.beta is 0.2, but a recipe takes 0.1"]
    assert "no known origin" in check(with_card(default=default.model_copy(update={"whose": " "})))[0]
    assert "no known origin" in check(with_card(default=default.model_copy(update={"source": "nobody"})))[0]


def test_the_check_finds_a_failure_without_a_detector():
    (mode, *_) = library().cards["dpo.beta"].fails_when
    wrong = mode.model_copy(update={"detector": "nothing"})
    assert "'nothing' is no detector" in check(with_card(fails_when=(wrong,)))[0]
    honest = mode.model_copy(update={"detector": "undetected"})
    assert check(with_card(fails_when=(honest,))) == []


def test_the_check_finds_what_is_wrong_with_a_further_setting():
    card = library().cards["lora.rank"]
    (alpha, *others) = card.also

    def changed(**changes):
        return check(with_card("lora.rank", also=(alpha.model_copy(update=changes), *others)))

    default = alpha.default
    assert changed() == []
    wrong = changed(default=default.model_copy(update={"value": 8.0}))
    assert "card lora.rank: also[0]: the default of sft.lora_alpha is 8.0, but a recipe takes 32.0" in wrong
    assert "also[0]: the default has no known origin" in changed(default=default.model_copy(update={"whose": ""}))[0]
    assert "also[0]: '*.lora_alfa' is not a key of a recipe" in changed(recipe="*.lora_alfa")[0]
    assert "also[0].range: has a number with neither" in changed(range=Statement(text="8 to 32"))[0]
    assert "also[0].what: source 'nobody' is unknown" in changed(what=Statement(text="Scale.", source="nobody"))[0]


def test_the_check_tells_false_from_zero():
    card = library().cards["online_dpo"]
    zero = card.default.model_copy(update={"value": 0})
    problems = check(with_card("online_dpo", default=zero))
    assert problems == ["card online_dpo: the default of preference.online is 0, but a recipe takes False"]


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("lora.rank", "reward.lora_alpha"),
        ("simpo", "preference.simpo.gamma"),
        ("grpo.kl", "policy_gradient.ppo.target_kl"),
        ("optimizer.schedule", "distill.beta2"),
        ("best_of.n", "evaluate.judge"),
        ("rejection_sampling", "data.method"),
    ],
)
def test_a_setting_that_was_removed_from_its_card_is_missed(path, setting):
    card = library().cards[path]
    left = tuple(knob for knob in card.also if not covers(knob.recipe, setting))
    assert len(left) == len(card.also) - 1
    assert f"setting {setting}: is on no card" in check(with_card(path, also=left))


def test_every_setting_is_missed_without_any_card():
    nothing = Library(library().sources, {}, {})
    defaults = commands.recipe_defaults()
    exempt = {key for key in defaults if any(covers(form, key) for form in HOUSEKEEPING)}
    assert set(missing_settings(nothing, defaults)) == {
        f"setting {key}: is on no card" for key in defaults.keys() - exempt
    }
    assert len(exempt) < len(defaults) / 4


def test_a_setting_on_two_cards_and_an_exemption_of_nothing_are_found():
    knob = library().cards["lora.rank"].also[0]
    twice = check(with_card("trainable.set", also=(knob,)))
    assert "setting sft.lora_alpha: is on several cards (lora.rank, trainable.set)" in twice
    assert missing_settings(library(), {"sft.learning_rate": 2e-5}) == [
        f"setting {form}: is exempt as housekeeping, but no recipe has it" for form in HOUSEKEEPING
    ]
    assert all(HOUSEKEEPING.values())


def test_defaults_are_told_apart_by_objective():
    defaults = commands.recipe_defaults()
    assert (defaults["preference.dpo.beta"], defaults["preference.simpo.beta"]) == (0.1, 2.0)
    assert (defaults["sft.learning_rate"], defaults["preference.learning_rate"]) == (2e-5, 1e-6)
    assert "policy_gradient.ppo.critic" in defaults
    assert "policy_gradient.critic" not in defaults
    assert defaults["distill.teacher"] is None


def test_the_closest_form_speaks_for_a_setting():
    forms = ["*.learning_rate", "reward.learning_rate", "policy_gradient.*.clip_low"]
    assert closest(forms, "reward.learning_rate") == ["reward.learning_rate"]
    assert closest(forms, "sft.learning_rate") == ["*.learning_rate"]
    assert closest(forms, "policy_gradient.learning_rate.x") == []
    assert not covers("*.beta", "preference.dpo.beta")
    assert as_written("preference.simpo.beta") == "preference.beta (objective: simpo)"
    assert as_written("policy_gradient.*.clip_low") == "policy_gradient.clip_low"
    assert as_written("dtype") == "dtype of the recipe"
    assert closest(["*.dtype", "dtype"], "dtype") == ["dtype"]


def measured(detector, **changes):
    values = {
        "detector": detector, "lab": "displacement", "fault": "near copies", "fired": 19, "runs": 20, "clean_fired": 1,
        "clean_runs": 100, "threshold_seeds": (0,), "seeds": (1, 2), "settings": settings_of(detector),
        "conditions": {"model": "tiny"},
    }  # fmt: skip
    return DetectorRate(**{**values, **changes})


def test_a_card_shows_the_measured_rates_of_its_detectors(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    rates = [measured("chosen_logprob_falling"), measured("chosen_logprob_falling", lab="second", fired=20)]
    monkeypatch.setattr(rates_module, "rates_of", lambda name: [one for one in rates if one.detector == name])
    commands.card("dpo.beta", check=False, json=False)
    assert "Fired: chosen_logprob_falling 39/40, clean 2/200\n" in capsys.readouterr().out
    commands.card("dpo.beta", check=False, json=True)
    found = json.loads(capsys.readouterr().out)["rates"]
    assert [one["lab"] for one in found["chosen_logprob_falling"]] == ["displacement", "second"]
    assert found["chosen_logprob_falling"][0]["true_positive"]["value"] == pytest.approx(0.95)
    assert found["margin_saturation"] == []
    assert UNDETECTED not in found


def test_rates_of_other_thresholds_are_not_shown_as_those_of_today(tmp_path, monkeypatch):
    old = measured("chosen_logprob_falling", settings={"threshold": 9.0})
    write_rate(old, tmp_path)
    monkeypatch.setattr(rates_module, "rates_of", lambda name: [old] if name == old.detector else [])
    card = library().cards["dpo.beta"]
    assert commands.rate_texts(card) == {}
    assert commands.detector_rates(card)["chosen_logprob_falling"][0]["current"] is False


def test_further_settings_stand_on_one_line_with_their_defaults(capsys):
    commands.card("lora.rank", check=False, json=False)
    text = capsys.readouterr().out
    assert "Also: lora_alpha 32.0, lora_targets all-linear, dora false, rslora false\n" in text
    commands.card("grpo.kl", check=False, json=False)
    shown = capsys.readouterr().out
    assert "more: --json" in shown
    commands.card("grpo.normalisation", check=False, json=True)
    card = json.loads(capsys.readouterr().out)
    assert (
        card["written"]["policy_gradient.grpo.completion_limit"] == "policy_gradient.completion_limit (objective: grpo)"
    )
    assert len(card["also"]) == len(card["written"]) - 1


def test_the_check_finds_a_claim_without_a_study():
    assert any("study 'dpo-beta' is unknown" in problem for problem in check(library(), studies=()))


def test_the_check_command_exits_1_on_a_problem(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    commands.card(None, check=True, json=True)
    assert json.loads(capsys.readouterr().out)["problems"] == []
    folder = tmp_path / "trimpot" / "evidence"
    folder.mkdir(parents=True)
    (folder / "dpo-beta.json").write_text("{}")
    with pytest.raises(typer.Exit) as stopped:
        commands.card(None, check=True, json=True)
    assert stopped.value.exit_code == 1
    assert "dpo-beta.json" in json.loads(capsys.readouterr().out)["problems"][0]


def test_json_of_a_card_is_one_object_with_sources_in_full(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    commands.card("dpo.beta", check=False, json=True)
    card = json.loads(capsys.readouterr().out)
    assert card["sources"]["dpo"]["address"] == "arxiv.org/abs/2305.18290"
    assert {"what", "equation", "default", "fails_when", "moves", "claims"} <= card.keys()


def test_a_claim_is_untested_without_evidence(tmp_path):
    known = library()
    found = claim_statuses(known.cards["dpo.beta"].claims, known, shipped=tmp_path, own=tmp_path)
    assert {one.word for one in found} == {UNTESTED}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {key: a, titel: b}", "titel|title"),
        ("- {key: a\n", "is not valid YAML"),
        ("- &s {key: a, title: t, address: d, really: r, verified: primary, how: h}\n- *s\n", "is there already"),
        ("- {key: a, title: t, address: d, really: r, verified: surely, how: h}", "verified"),
    ],
)
def test_a_malformed_data_file_is_named(tmp_path, text, words):
    (tmp_path / "sources.yaml").write_text(text)
    (tmp_path / "claims.yaml").write_text("")
    with pytest.raises(UsageError, match=words) as raised:
        read_library(tmp_path)
    assert "sources.yaml" in raised.value.where


def test_settings_outside_recipes_have_a_card_and_the_defaults_of_the_code():
    from inspect import signature

    from trimpot.cli.evaluate import evaluate
    from trimpot.evaluation.judges.duel import judge_pairs
    from trimpot.evaluation.judges.judge import Question, Verdict
    from trimpot.evaluation.judges.pairs import AnswerPair
    from trimpot.evaluation.judges.report import JudgeSettings
    from trimpot.evaluation.perturbations.apply import perturbed
    from trimpot.evaluation.task_file import TASK_KEYS

    asked: list[Question] = []

    class Judge:
        name, order_matters, temperature, reads_anything = "scripted", True, 0.0, True

        def verdicts(self, questions, draw=0, progress=None):
            asked.extend(questions)
            return [Verdict(1.0) for _ in questions]

    judge_pairs(Judge(), [AnswerPair("t", "i", "q", "a", "b")])
    found = {
        "task.prompt": None if "prompt" in TASK_KEYS else "gone",
        "eval.seed": signature(evaluate).parameters["seed"].default,
        "judge.orders": "both" if [one.swapped for one in asked] == [False, True] else "one",
        "judge.length_limit": JudgeSettings().length_limit,
        "perturbed.strength": signature(perturbed).parameters["strength"].default,
    }
    assert found == {key: one.default for key, one in ELSEWHERE.items()}
    on_cards = {knob.recipe for card in library().cards.values() for _, knob in card.knobs()}
    assert set(ELSEWHERE) <= on_cards


def test_a_wrong_default_outside_recipes_is_found_and_written_where_it_stands():
    default = library().cards["judge.length"].default.model_copy(update={"value": 0.9})
    assert check(with_card("judge.length", default=default)) == [
        "card judge.length: the default of judge.length_limit is 0.9, but trimpot judge --set length_limit takes 0.8"
    ]
    assert as_written("task.prompt") == "prompt in a task file"
