"""Topics and their quiz: eight of five to ten lines, every status looked up, and every gap found. Evidence here is
constructed, unless it is that which comes with trimpot."""

import json

import pytest

from trimpot.core.errors import UsageError
from trimpot.core.stats import Estimate
from trimpot.knobs import quiz
from trimpot.knobs.check import check_topics
from trimpot.knobs.evidence import ClaimTest, Conditions, Evidence, user_folder, write_evidence
from trimpot.knobs.library import Library, library, read_library
from trimpot.knobs.schema import TOPICS, Answer, Statement
from trimpot.knobs.status import UNTESTED, Status, claim_statuses
from trimpot.knobs.topic_text import (
    QUESTIONS,
    counts,
    evidence_words,
    measured,
    source_words,
    topic_json,
    topic_lines,
    topic_of_card,
    topic_of_claim,
)

CLOSER, FURTHER, RIGHT = "dpo-larger-beta-stays-closer", "dpo-larger-beta-moves-further", "dpo-small-beta-degenerates"
KL, ACCURACY = "a constructed slope of KL", "a constructed change in accuracy"


def constructed(study="dpo-beta", seen=None, settings=None, plan_hash="c" * 16):
    """Evidence with an effect of 0.375 on KL, and none on accuracy."""
    claims = library().claims
    up, none = Estimate(0.375, 0.25, 0.5, 3, "t"), Estimate(0.0, -0.25, 0.25, 3, "t")
    tests = {
        CLOSER: ClaimTest(claims[CLOSER].statement, KL, up, 0.01, 0.1, "refuted"),
        FURTHER: ClaimTest(claims[FURTHER].statement, KL, up, 0.01, 0.1, "confirmed"),
        RIGHT: ClaimTest(claims[RIGHT].statement, ACCURACY, none, 0.9, 0.2, "inconclusive"),
    }
    return Evidence(
        study=study, question="What does β do?", plan_hash=plan_hash, seeds=(1, 2, 3), arms={}, results={}, failed=(),
        control=None, tested=tests if seen is None else seen,
        conditions=Conditions("toy", "constructed", "quick", settings or {}, {}, None, "2026-12-01", 1.0),
    )  # fmt: skip


@pytest.fixture
def yours():
    """Constructed evidence in the user's folder, which stands before what comes with trimpot."""
    write_evidence(constructed(), user_folder())


def with_topic(id="post-training", **changes):
    base = library()
    topics = {**base.topics, id: base.topics[id].model_copy(update=changes)}
    return Library(base.sources, base.claims, base.cards, base.disagreements, topics)


def with_source(key, **changes):
    base = library()
    sources = {**base.sources, key: base.sources[key].model_copy(update=changes)}
    return Library(sources, base.claims, base.cards, base.disagreements, base.topics)


@pytest.mark.parametrize("id", sorted(library().topics))
def test_a_topic_has_ten_lines_at_most_and_all_its_parts(id):
    lines = topic_lines(library().topics[id], library())
    assert 5 <= len(lines) <= 10
    heads = [head for head, _ in lines]
    for head in ("core:", "practitioner:", "they disagree:", *QUESTIONS.values()):
        assert heads.count(head) == 1
    assert all(rest for _, rest in lines)
    assert [line for line in lines if len(" ".join(line)) > 180] == []


def test_there_are_the_eight_of_the_list_and_the_check_has_nothing_to_say():
    assert [topic.number for topic in library().topics.values()] == list(TOPICS)
    assert check_topics(library()) == []
    assert check_topics(Library({}, {}, {})) == []


def test_no_number_is_typed_into_an_answer():
    for topic in library().topics.values():
        for answer in topic.answers().values():
            assert not any(sign.isdigit() for sign in answer.text), answer.text


def test_a_verdict_and_its_number_come_from_the_evidence(yours):
    known = library()
    answer = Answer(text="β.", claims=(CLOSER,))
    assert evidence_words(answer, known) == [f"refuted (yours, toy): {KL} +0.38 [+0.25, +0.5] [{CLOSER}]"]
    lines = topic_lines(known.topics["post-training"], known)
    assert any("refuted (yours, toy)" in rest and "+0.38 [+0.25, +0.5]" in rest for _, rest in lines)
    assert "refuted: dpo; confirmed: smol-course [beta-direction]" in dict(lines)["they disagree:"]
    found = topic_json(known.topics["post-training"], known)["answers"]["knob"]["claims"][0]
    assert found["evidence"][0]["tested"]["effect"]["value"] == 0.375


def test_what_has_no_evidence_says_so():
    known = library()
    untested = next(one for one in known.claims if claim_statuses([one], known)[0].word == UNTESTED)
    answer = Answer(text="x", claims=(untested, "helm-raises-coverage"), source="helm")
    assert evidence_words(answer, known) == [
        f"not measured yet: {untested}",
        "cannot be measured here: helm-raises-coverage",
        "from helm",
    ]
    assert counts([untested, "helm-raises-coverage"], known) == "1 not measured yet, 1 cannot be measured here"
    assert counts([], known) == ""


def test_claims_that_carry_evidence_are_counted(yours):
    known = library()
    few = Library(known.sources, {name: known.claims[name] for name in (CLOSER, RIGHT, "megatron-perplexity")}, {})
    assert measured(few.claims, few) == [CLOSER, RIGHT]
    answer = Answer(text="x", counts_claims=True)
    assert evidence_words(answer, few) == ["2 of 3 claims measured: 1 refuted, 1 inconclusive"]


def test_that_no_source_is_reachable_follows_from_the_flags():
    known = library()
    reading = dict(topic_lines(known.topics["reading"], known))
    assert reading["core:"].startswith("none reachable: arora, not found")
    assert reading["practitioner:"] == "none reachable: meta, not found"
    assert reading["they disagree:"].startswith("nothing to compare")
    gone = with_source("hf-par", flag="dead", meant="the guide", right_address=None)
    topic = gone.topics["distributed"]
    assert source_words(topic, "practitioner", gone).startswith("none reachable: hf-par, ")
    assert topic_json(topic, gone)["practitioner"] == {"reachable": False, "source": None, "unreachable": ["hf-par"]}
    assert any("'hf-par' is a dead link" in problem for problem in check_topics(gone))
    back = with_source("arora", right_address="example.org/reading.pdf")
    assert check_topics(back) == ["topic reading: core: names no source, though the list's can be reached (arora)"]


def test_a_flagged_source_is_given_where_it_can_be_read():
    known = library()
    text = source_words(known.topics["post-training"], "practitioner", known)
    assert "lilianweng.github.io/posts/2024-11-28-reward-hacking/ (read; the list's link is dead)" in text
    assert "known secondhand" in source_words(known.topics["distributed"], "core", known)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"core": "nobody"}, "core: source 'nobody' is unknown"),
        ({"core": "gns"}, "core: the list does not have 'gns' there"),
        ({"practitioner": None}, "practitioner: names no source, though the list's can be reached (raschka, lil-rlhf)"),
        ({"disagreements": ("none-such",)}, "disagreement 'none-such' is unknown"),
        ({"disagreements": ()}, "does not say where its sources disagree"),
        ({"differs": Statement(text="One says 2.")}, "differs: has a number with neither source nor claim"),
        ({"differs": Statement(text="One says so.")}, "differs: names no source"),
        ({"knob": Answer(text=" ", source="dpo")}, "knob: is not answered"),
        ({"fails": Answer(text="At 0.1.", cards=("dpo.beta",))}, "fails: has a number with neither source nor claim"),
        ({"metric": Answer(text="Accuracy.")}, "metric: rests on no claim, card or source"),
        ({"metric": Answer(text="x", claims=("no-claim",))}, "metric: claim 'no-claim' is unknown"),
        ({"knob": Answer(text="x", cards=("no.card",))}, "knob: card 'no.card' is unknown"),
        ({"knob": Answer(text="x", source="meta")}, "knob: source 'meta' is a dead link"),
        ({"number": 2}, "topic 1 (Post-training): is given 0 times"),
        ({"cards": ("data",)}, "topics: several have the cards of 'data'"),
    ],
)
def test_the_check_finds_what_is_wrong_with_a_topic(changes, words):
    assert any(words in problem for problem in check_topics(with_topic(**changes)))


def test_a_card_of_no_topic_is_found_and_the_longest_beginning_counts():
    base = library()
    card = base.cards["recompute"].model_copy(update={"topic": "cooking / soups"})
    odd = Library(base.sources, base.claims, {**base.cards, "recompute": card}, base.disagreements, base.topics)
    assert "card recompute: its topic 'cooking / soups' is under none of the list's" in check_topics(odd)
    wide = with_topic("efficiency", cards=("post-training / reward",))
    assert topic_of_card(wide.cards["reward.center"], wide).id == "efficiency"
    assert topic_of_card(wide.cards["dpo.beta"], wide).id == "post-training"


def test_a_claim_is_under_the_topic_of_its_source_or_of_its_knob():
    known = library()
    assert topic_of_claim(known.claims["noise-scale-grows"], known).id == "training-dynamics"
    assert known.sources[known.claims["dpo-suppresses-rejected"].source].reading_list is None
    assert topic_of_claim(known.claims["dpo-suppresses-rejected"], known).id == "post-training"
    assert topic_of_claim(known.claims["sharpness-depends-on-scale"], known) is None


def test_a_topic_is_found_by_id_and_number():
    assert library().topic("3") is library().topic("evaluation")
    with pytest.raises(UsageError, match="Did you mean 'evaluation'"):
        library().topic("evalution")


def test_a_topic_without_one_of_its_answers_is_named(tmp_path):
    for name in ("sources", "claims", "disagreements"):
        (tmp_path / f"{name}.yaml").write_text("")
    text = "- {id: a, number: 1, cards: [a], knob: {text: t, source: s}, fails: {text: t, source: s}}"
    (tmp_path / "topics.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"topics\.yaml: a: metric"):
        read_library(tmp_path)


def questions(tmp_path, topic=None, **evidence):
    """The quiz's questions from constructed evidence alone."""
    write_evidence(constructed(**evidence), tmp_path / "own")
    return quiz.questions(library(), topic, tmp_path / "none", tmp_path / "own")


def test_only_what_was_measured_is_asked_and_one_quantity_once(tmp_path):
    first, second = questions(tmp_path)
    assert [one.claim.id for one in first.verdicts] == [CLOSER, FURTHER]
    assert [one.claim.id for one in second.verdicts] == [RIGHT]
    assert (first.measured, second.measured) == (quiz.RISES, quiz.NO_DIFFERENCE)
    assert quiz.questions(library(), None, tmp_path / "none", tmp_path / "none") == []


def test_a_question_does_not_give_the_answer_away(tmp_path):
    first, _ = questions(tmp_path)
    text = "\n".join(first.lines())
    assert KL in text
    assert "toy" in text
    for one in first.verdicts:
        assert one.claim.statement not in text
        assert one.word not in text
    assert "0.38" not in text


def test_a_quiz_of_a_topic_asks_what_is_under_it(tmp_path):
    known = library()
    assert len(questions(tmp_path, known.topics["post-training"])) == 2
    assert questions(tmp_path, known.topics["distributed"]) == []


def test_the_answer_shows_verdict_interval_and_claims(tmp_path):
    first, second = questions(tmp_path)
    lines = first.answer_lines(quiz.FALLS)
    assert lines[0] == (
        "Measured: rises (+0.38 [+0.25, +0.5], 95% interval over 3 seeds). You said falls: not what was measured."
    )
    assert lines[1] == f"refuted: {library().claims[CLOSER].statement} (dpo)"
    assert second.answer_lines(quiz.NO_DIFFERENCE)[0].endswith("You said no difference seen: right.")


@pytest.mark.parametrize(
    ("direction", "verdict", "low", "high", "answer"),
    [
        ("up", "confirmed", 0.1, 0.3, quiz.RISES),
        ("down", "refuted", 0.1, 0.3, quiz.RISES),
        ("down", "confirmed", -0.3, -0.1, quiz.FALLS),
        ("up", "inconclusive", 0.1, 0.3, quiz.NO_DIFFERENCE),
        ("equal", "confirmed", 0.1, 0.3, quiz.NO_DIFFERENCE),
        ("equal", "refuted", -0.3, -0.1, quiz.FALLS),
        ("equal", "inconclusive", 0.1, 0.3, quiz.RISES),
        ("equal", "inconclusive", -0.1, 0.3, quiz.NO_DIFFERENCE),
    ],
)
def test_the_measured_answer_follows_from_verdict_and_effect(direction, verdict, low, high, answer):
    effect = Estimate((low + high) / 2, low, high, 5, "t")
    assert quiz.answer_of(direction, ClaimTest("s", "q", effect, 0.01, 0.1, verdict)) == answer


@pytest.mark.parametrize(
    ("direction", "verdict", "p", "margin", "words"),
    [
        ("up", "inconclusive", 0.06, None, "among the study's tests it does not count, Holm p 0.06"),
        ("up", "inconclusive", 0.01, None, "the study's control differs, so nothing counts"),
        ("equal", "confirmed", 0.01, 0.4, "within ±0.4, which counts as equal"),
    ],
)
def test_an_interval_beside_0_that_is_no_difference_is_explained(direction, verdict, p, margin, words):
    claim = library().claims[CLOSER].model_copy(update={"direction": direction})
    tested = ClaimTest("s", "q", Estimate(0.2, 0.1, 0.3, 5, "t"), p, 0.1, verdict, margin)
    question = quiz.Question((Status(claim, verdict, "yours", tested, constructed()),))
    assert question.answer_lines(quiz.RISES)[0] == (
        f"Measured: no difference seen (+0.2 [+0.1, +0.3], 95% interval over 5 seeds; {words})."
        " You said rises: not what was measured."
    )


def test_no_effect_is_no_difference():
    assert quiz.answer_of("up", ClaimTest("s", "q", Estimate(None, None, None, 0, "t"), None, None, "confirmed")) == (
        quiz.NO_DIFFERENCE
    )


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("r\n", quiz.RISES),
        (" Rises ", quiz.RISES),
        ("FALL", quiz.FALLS),
        ("n", quiz.NO_DIFFERENCE),
        ("no difference  seen", quiz.NO_DIFFERENCE),
        ("", None),
        ("up or down", None),
    ],
)
def test_a_prediction_is_read_by_its_first_letter(line, meant):
    assert quiz.read_prediction(line) == meant


def test_predictions_are_kept_and_not_asked_again(tmp_path):
    file = tmp_path / "predictions.jsonl"
    first, second = questions(tmp_path)
    quiz.keep(first.record(quiz.FALLS), file)
    quiz.keep(second.record(quiz.NO_DIFFERENCE), file)
    wrong, right = quiz.kept_predictions(file)
    assert (wrong["claim"], wrong["plan_hash"], wrong["prediction"]) == (CLOSER, "c" * 16, quiz.FALLS)
    assert (wrong["measured"], wrong["right"], right["right"]) == (quiz.RISES, False, True)
    assert wrong["verdicts"] == {CLOSER: "refuted", FURTHER: "confirmed"}
    assert wrong["effect"]["low"] == 0.25
    assert quiz.score([wrong, right]) == {"predictions": 2, "right": 1}
    assert quiz.unasked([first, second], [wrong]) == [second]
    again = questions(tmp_path, plan_hash="d" * 16)
    assert quiz.unasked(again, [wrong, right]) == again


def test_a_torn_line_costs_no_other_and_a_foreign_one_is_named(tmp_path):
    file = tmp_path / "predictions.jsonl"
    first, second = questions(tmp_path)
    quiz.keep(first.record(quiz.RISES), file)
    with file.open("a") as log:
        log.write('{"claim": "cut of')
    quiz.keep(second.record(quiz.RISES), file)
    assert len(quiz.kept_predictions(file)) == 2
    with file.open("a") as log:
        log.write(json.dumps({"what": "else"}) + "\n")
    with pytest.raises(UsageError, match=r"predictions\.jsonl:3: is no prediction"):
        quiz.kept_predictions(file)


def test_yours_and_shipped_evidence_of_a_study_make_one_question(tmp_path):
    write_evidence(constructed(plan_hash="d" * 16), tmp_path / "shipped")
    write_evidence(constructed(), tmp_path / "own")
    found = quiz.questions(library(), None, tmp_path / "shipped", tmp_path / "own")
    assert [one.record(quiz.RISES)["evidence"] for one in found] == ["yours", "yours"]
