"""The cards as shipped: they pass their check, fit ten lines, and every problem the check knows is found."""

import json

import pytest
import typer

from trimpot.cli import knobs as commands
from trimpot.core.errors import UsageError
from trimpot.detectors import DETECTORS
from trimpot.knobs.check import check_cards
from trimpot.knobs.library import Library, library, read_library
from trimpot.knobs.schema import Statement
from trimpot.knobs.status import UNTESTED, claim_statuses
from trimpot.knobs.text import card_lines
from trimpot.studies import STUDIES


def check(changed, **options):
    known = {"detectors": DETECTORS, "recipe_defaults": commands.recipe_defaults(), "studies": STUDIES}
    return check_cards(changed, **{**known, **options}, evidence_folders=())


def with_card(**changes):
    base = library()
    card = base.cards["dpo.beta"].model_copy(update=changes)
    return Library(base.sources, base.claims, {card.path: card})


def test_the_shipped_cards_have_no_problem():
    assert check(library()) == []
    assert "dpo.beta" in library().cards


@pytest.mark.parametrize("whose", ["shipped", "none"])
@pytest.mark.parametrize("path", sorted(library().cards))
def test_a_card_has_at_most_ten_lines_of_a_hundred_characters(path, whose, tmp_path):
    known = library()
    card = known.cards[path]
    places = {"own": tmp_path} if whose == "shipped" else {"own": tmp_path, "shipped": tmp_path}
    lines = [
        f"{head or ' '} {rest}" for head, rest in card_lines(card, known, claim_statuses(card.claims, known, **places))
    ]
    assert len(lines) <= 10
    assert [line for line in lines if len(line) > 100] == []
    text = "\n".join(lines)
    for question in ("what knob is it?", "When does it fail?", "Which metric does it move?", "Sources:"):
        assert question in text


def test_every_detector_that_names_a_missing_card_is_harmless():
    for kind in DETECTORS.values():
        path = kind().card
        if path not in library().cards:
            with pytest.raises(UsageError, match="no such card"):
                library().card(path)


def test_an_unknown_card_names_the_nearest(capsys):
    with pytest.raises(UsageError, match=r"Did you mean 'dpo\.beta'"):
        commands.card("dpo.bta", check=False, json=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"core_source": "nobody"}, "core_source 'nobody' is unknown"),
        ({"claims": ("no-claim",)}, "claim 'no-claim' is unknown"),
        ({"recipe": "preference.betta"}, "'preference.betta' is not a key of a recipe"),
        ({"what": Statement(text="Take 0.1.")}, "has a number with neither source nor claim"),
        ({"what": Statement(text="Take 0.1.", source="nobody")}, "source 'nobody' is unknown"),
        ({"what": Statement(text="Take 0.1.", claim="no-claim")}, "claim 'no-claim' is unknown"),
    ],
)
def test_the_check_finds_what_is_wrong(changes, words):
    assert any(words in problem for problem in check(with_card(**changes)))


def test_the_check_finds_a_default_that_is_not_the_recipes_or_has_no_origin():
    default = library().cards["dpo.beta"].default
    assert "a recipe takes 0.1" in check(with_card(default=default.model_copy(update={"value": 0.2})))[0]
    assert "no known origin" in check(with_card(default=default.model_copy(update={"whose": " "})))[0]
    assert "no known origin" in check(with_card(default=default.model_copy(update={"source": "nobody"})))[0]


def test_the_check_finds_a_failure_without_a_detector():
    (mode, *_) = library().cards["dpo.beta"].fails_when
    wrong = mode.model_copy(update={"detector": "nothing"})
    assert "'nothing' is no detector" in check(with_card(fails_when=(wrong,)))[0]
    honest = mode.model_copy(update={"detector": "undetected"})
    assert check(with_card(fails_when=(honest,))) == []


def test_the_check_finds_a_claim_without_a_study():
    assert "study 'dpo-beta' is unknown" in check(library(), studies=())[0]


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
