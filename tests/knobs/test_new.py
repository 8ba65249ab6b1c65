"""The user's own papers: scaffolded, shown as theirs, and every gap named. Papers and evidence here are constructed."""

import pytest
import yaml

from trimpot.cli.knobs import recipe_defaults
from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.detectors import DETECTORS
from trimpot.knobs.evidence import ClaimTest, Conditions, Evidence, user_folder, write_evidence
from trimpot.knobs.library import library
from trimpot.knobs.new import (
    Paper,
    check_paper,
    find_setting,
    prediction,
    read_direction,
    read_text,
    scaffold,
    study_command,
)
from trimpot.knobs.own import CARD, CLAIM, FILES, SOURCE, STUDY, Own, check_own, gaps, own_folder, read_own, with_own
from trimpot.knobs.source_text import source_list
from trimpot.knobs.status import UNTESTED, claim_statuses
from trimpot.knobs.text import card_json, card_lines
from trimpot.studies import STUDIES
from trimpot.studies.sweep_prediction import read_prediction

DEFAULTS = recipe_defaults()
PAPER = Paper(
    "my-paper", 'A "constructed" paper: β', "example.org/1", "preference.beta", "A larger β lowers accuracy; a bit.",
    "accuracy", "down",
)  # fmt: skip


def make(paper=PAPER):
    setting = find_setting(paper.knob, DEFAULTS, library())
    scaffold(paper, setting, check_paper(paper, library(), STUDIES))
    return own_folder() / paper.name


def problems():
    own = read_own(library())
    return check_own(library(), own, DETECTORS, DEFAULTS, STUDIES)


def fill(file, **changes):
    content = {**yaml.safe_load(file.read_text()), **changes}
    file.write_text(yaml.safe_dump(content, allow_unicode=True))


def fill_all(folder):
    fill(folder / SOURCE, really="Nobody 2026, a constructed paper", how="not at all")
    fill(folder / CLAIM, place="table 1", condition="none is given")
    mode = {"condition": "Too small.", "signal": "kl", "detector": "undetected", "mend": "Raise it."}
    fill(
        folder / CARD, what="How firmly.", equation="β in the loss", range="any", fails_when=[mode],
        moves={"accuracy": {"sign": "-", "how": "it holds back"}}, practitioner_source="trl", disagreement="None.",
    )  # fmt: skip
    fill(folder / STUDY, recipe="recipe.yaml")


def test_a_scaffold_holds_what_was_said_and_what_follows_from_it():
    folder = make()
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    own = read_own(library())
    assert own.problems == ()
    assert own.sources["my-paper"].title == PAPER.title
    claim, card = own.claims["my-paper"], own.cards["my-paper"]
    assert (claim.statement, claim.direction, claim.source, claim.study) == (
        PAPER.claim,
        "down",
        "my-paper",
        "my-paper",
    )
    assert (card.recipe, card.default.value) == ("preference.dpo.beta", DEFAULTS["preference.dpo.beta"])
    shipped = library().cards["dpo.beta"]
    assert (card.default, card.topic) == (shipped.default, shipped.topic)
    assert card.moves["accuracy"].sign == "-"
    study = yaml.safe_load((folder / STUDY).read_text())
    assert study["arms"] == {"preference.beta": [0.03, 0.1, 0.3]}
    assert study["predict"] == "accuracy falls with preference.beta; A larger β lowers accuracy; a bit."


def test_a_small_number_stays_a_number():
    folder = make(Paper("small", "t", "a", "preference.learning_rate", "c", "accuracy", "up"))
    assert read_own(library()).cards["small"].default.value == 1e-6
    study = yaml.safe_load((folder / STUDY).read_text())
    assert study["arms"]["preference.learning_rate"] == pytest.approx([3e-7, 1e-6, 3e-6])


@pytest.mark.parametrize("name", ["2026", "no", "1e3"])
def test_a_name_that_yaml_would_take_for_something_else_stays_a_name(name):
    make(Paper(name, "t", "a", "preference.beta", "c", "accuracy", "up"))
    own = read_own(library())
    assert (own.problems, set(own.cards), set(own.claims)) == ((), {name}, {name})


def test_every_gap_is_named_by_file_and_field():
    folder = make()
    assert set(problems()) == {
        f"{folder / file}: {field}: is still TODO"
        for file, fields in {
            SOURCE: ["really", "how"],
            CLAIM: ["place", "condition"],
            CARD: [
                "what", "equation", "range", "fails_when[0].condition", "fails_when[0].signal",
                "fails_when[0].detector", "fails_when[0].mend", "moves.accuracy.how",
                "practitioner_source", "disagreement",
            ],
            STUDY: ["recipe"],
        }.items()
        for field in fields
    }  # fmt: skip


def test_a_paper_without_a_gap_is_checked_like_any_other():
    folder = make()
    fill_all(folder)
    assert problems() == []
    fill(folder / CARD, what="Take 0.1.", default={"value": 0.7, "whose": "nobody", "source": "trl"})
    found = problems()
    assert len(found) == 2
    assert any("has a number with neither source nor claim" in one for one in found)
    assert any("the default of preference.dpo.beta is 0.7, but a recipe takes 0.1" in one for one in found)
    assert all(one.startswith(str(folder / CARD)) for one in found)
    fill(folder / CARD, what="x", practitioner_source="nobody")
    assert any("practitioner_source 'nobody' is unknown" in one for one in problems())
    fill(folder / CLAIM, source="nobody")
    assert any("claim my-paper: source 'nobody' is unknown" in one for one in problems())


def test_a_missing_a_broken_and_a_doubled_file_are_named_and_the_rest_is_there():
    folder = make()
    fill_all(folder)
    (folder / CLAIM).unlink()
    assert problems()[0] == f"{folder / CLAIM}: is missing"
    (folder / CLAIM).write_text("id: [")
    assert any(one.startswith(f"{folder / CLAIM}") and "is not valid YAML" in one for one in problems())
    assert "my-paper" in read_own(library()).cards
    (folder / CLAIM).write_text("id: dpo-raises-chosen\nstatement: s\nsource: dpo\nplace: p\ncondition: c\nmetric: m\n"
                                "direction: up\n")  # fmt: skip
    assert f"{folder / CLAIM}: id: trimpot has a claim 'dpo-raises-chosen' already" in problems()
    (folder / STUDY).write_text("recipe: [")
    assert f"{folder / STUDY}: is not valid YAML" in problems()


def test_no_folder_is_no_problem():
    assert read_own(library()) == Own()
    assert problems() == []


def test_todo_is_found_in_keys_lists_and_words(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("a: {TODO.beta: [1, 'TODO: this']}\nb: no TODOS here\nc: [ok]\n")
    assert gaps(file) == [f"{file}: a.TODO.beta: is still TODO", f"{file}: a.TODO.beta[1]: is still TODO"]


def test_the_users_own_is_marked_and_shown_unfinished():
    make()
    known = with_own(library(), read_own(library()))
    assert known.is_yours("card", "my-paper")
    assert not known.is_yours("card", "dpo.beta")
    lines = source_list(known)
    assert lines[-2][0] == "Yours"
    assert lines[-1][0] == "  my-paper"
    card = known.cards["my-paper"]
    statuses = claim_statuses(card.claims, known)
    assert len(card_lines(card, known, statuses)) <= 10
    assert "my-paper" in card_json(card, known, statuses)["sources"]
    assert "my-paper" not in library().cards


@pytest.mark.parametrize(
    ("knob", "form", "written", "card"),
    [
        ("preference.beta", "preference.dpo.beta", "preference.beta", "dpo.beta"),
        ("dpo.beta", "preference.dpo.beta", "preference.beta", "dpo.beta"),
        ("preference.simpo.beta", "preference.simpo.beta", "preference.beta", "simpo"),
        ("sft.learning_rate", "sft.learning_rate", "sft.learning_rate", "optimizer.learning_rate"),
        ("optimizer.learning_rate", "*.learning_rate", "TODO.learning_rate", "optimizer.learning_rate"),
        ("policy_gradient.group", "policy_gradient.group", "policy_gradient.group", "grpo.group"),
    ],
)
def test_a_knob_is_found_as_a_recipe_or_a_card_names_it(knob, form, written, card):
    found = find_setting(knob, DEFAULTS, library())
    assert (found.form, found.written, found.card.path) == (form, written, card)


@pytest.mark.parametrize("knob", ["preference.betta", "dpo.bta", "quantum.flux"])
def test_an_unknown_knob_names_the_nearest(knob):
    with pytest.raises(UsageError, match="is no setting of a recipe and no card"):
        find_setting(knob, DEFAULTS, library())


def test_nothing_is_overwritten_and_names_are_ones_own():
    folder = make()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="exists already"):
        check_paper(PAPER, library(), STUDIES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for name, words in (("gns", "name of a source"), ("dpo-beta", "name of a study"), ("../x", "is no name"),
                        ("My Paper", "is no name"), ("dpo-raises-chosen", "name of a claim")):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            check_paper(Paper(name, "t", "a", "k", "c", "m", "up"), library(), STUDIES)


def test_texts_and_directions_are_read():
    assert read_text("--title", " a ") == "a"
    assert read_direction("equal") == "equal"
    for text in ("", " ", "two\nlines", "a\x07b"):
        with pytest.raises(UsageError, match="--title: is empty, or more than one line"):
            read_text("--title", text)
    with pytest.raises(UsageError, match="'rising' is no direction"):
        read_direction("rising")


@pytest.mark.parametrize(
    ("metric", "direction", "words"),
    [
        ("accuracy", "up", "accuracy rises with preference.beta; c"),
        ("accuracy", "equal", "accuracy stays with preference.beta; c"),
        ("loss", "equal", "loss stays within TODO with preference.beta; c"),
        ("win rate", "down", "TODO falls with preference.beta; c"),
    ],
)
def test_a_prediction_is_one_that_a_study_can_score(metric, direction, words):
    paper = Paper("p", "t", "a", "preference.beta", "c", metric, direction)
    setting = find_setting(paper.knob, DEFAULTS, library())
    assert prediction(paper, setting) == words
    if "TODO" not in words:
        arms = {"recipe": {"preference.beta": 0.1}, "preference.beta=0.3": {"preference.beta": 0.3}}
        (part,) = read_prediction(words, arms).parts
        assert part.direction == direction


def test_the_command_says_all_of_it():
    setting = find_setting("preference.beta", DEFAULTS, library())
    assert study_command(PAPER, setting) == (
        "trimpot study new RECIPE --arms preference.beta=0.03,0.1,0.3 --seeds 5 --name my-paper"
        " --predict 'accuracy falls with preference.beta; A larger β lowers accuracy; a bit.'"
    )


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("accuracy falls with preference.beta; A larger β lowers accuracy; a bit.", "confirmed"),
        ("accuracy rises with preference.beta; A larger β lowers accuracy; a bit.", UNTESTED),
        ("accuracy falls with preference.beta; Something else.", UNTESTED),
        ("accuracy falls with preference.beta", UNTESTED),
    ],
)
def test_a_study_of_ones_own_gives_the_claim_its_status(said, word):
    make()
    tested = ClaimTest(
        said.partition(";")[0], "accuracy of two arms", Estimate(-0.5, -0.6, -0.4, 5, "t"), 0.01, 0.1, "confirmed"
    )
    evidence = Evidence(
        study="my-paper", question="?", plan_hash="a" * 16, seeds=(1, 2), arms={}, results={}, failed=(), control=None,
        tested={"prediction": tested},
        conditions=Conditions("toy", "constructed", "sweep", {"prediction": said}, {}, None, "2026-12-01", 1.0),
    )  # fmt: skip
    write_evidence(evidence, user_folder())
    known = with_own(library(), read_own(library()))
    (found,) = claim_statuses(["my-paper"], known)
    assert found.word == word
    if word == "confirmed":
        assert (found.whose, found.tested.statement) == ("yours", PAPER.claim)
