"""The reading list as data: every link is there, flagged where it must be, and says how far it was read."""

from collections import Counter

import pytest

from trimpot.core.errors import UsageError
from trimpot.knobs.check_claims import check_sources, citation
from trimpot.knobs.library import Library, library, read_library
from trimpot.knobs.schema import TOPICS
from trimpot.knobs.source_text import knobs_of, source_json, source_lines, source_list, sources_json

SOURCE = "- {key: a, title: t, address: d, really: r, verified: primary, how: h"
CLAIM = "- {id: c, statement: s, source: a, place: p, condition: k, metric: m, direction: up"
SIDES = "sides: [{claim: c}, {claim: d}]"


def listed():
    return {key: source for key, source in library().sources.items() if source.reading_list is not None}


def with_source(key="gns", **changes):
    base = library()
    sources = {**base.sources, key: base.sources[key].model_copy(update=changes)}
    return Library(sources, base.claims, base.cards, base.disagreements)


def test_the_list_has_29_entries_in_eight_topics_each_with_both_parts():
    topics = Counter(source.reading_list.topic for source in listed().values())
    assert [topics[topic] for topic in TOPICS] == [6, 5, 5, 4, 3, 2, 2, 2]
    assert sum(topics.values()) == 29
    for topic in TOPICS:
        parts = {source.reading_list.part for source in listed().values() if source.reading_list.topic == topic}
        assert parts == {"core", "practitioner"}
    assert len({source.address for source in listed().values()}) == 29


def test_at_least_twelve_are_flagged_and_say_what_was_meant():
    flagged = {key: source for key, source in listed().items() if source.flag != "none"}
    assert len(flagged) >= 12
    assert all(source.meant for source in flagged.values())
    assert "ST-MoE" in flagged["dsel"].really
    assert flagged["dsel"].right_address == "arxiv.org/abs/2402.16827"
    assert "Code as Policies" in flagged["cascades"].really
    assert (flagged["dsel"].flag, flagged["lil-rlhf"].flag, flagged["redteam"].flag) == ("mislabelled", "dead", "moved")


def test_what_is_unreachable_has_no_claims_and_says_so():
    unreachable = {key for key, source in library().sources.items() if source.unreachable}
    assert unreachable == {"openai-eval", "arora", "meta"}
    cited = {claim.source for claim in library().claims.values()}
    for key, source in listed().items():
        assert (key in cited) != bool(source.no_claims), key


def test_nothing_cites_a_source_that_is_not_known_or_is_a_dead_link():
    assert check_sources(library()) == []
    assert citation("here: source", "gns", library()) == []
    assert citation("here: source", "nobody", library()) == ["here: source 'nobody' is unknown"]
    assert "is a dead link (not found)" in citation("here: source", "meta", library())[0]


@pytest.mark.parametrize(
    ("key", "changes", "words"),
    [
        ("dsel", {"meant": None}, "source dsel: is mislabelled, but does not say what was meant"),
        ("ckpt", {"right_address": None}, "source ckpt: is moved, but does not say where to"),
        ("dsel", {"flag": "none"}, "source dsel: has a right address, but no flag"),
        ("arora", {"no_claims": None}, "source arora: is on the list, has no claim and does not say why"),
        ("gns", {"no_claims": "none"}, "source gns: says why it has no claim, but has one"),
    ],
)
def test_the_check_finds_what_a_source_leaves_out(key, changes, words):
    assert check_sources(with_source(key, **changes)) == [words]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("sources.yaml", SOURCE + ", flag: broken}", r"sources\.yaml: a: flag"),
        ("sources.yaml", SOURCE + ", reading_list: {topic: 9, part: core}}", r"a: reading_list\.topic"),
        ("sources.yaml", SOURCE + ", reading_list: {topic: 1, part: extra}}", r"a: reading_list\.part"),
        ("claims.yaml", CLAIM + ", status: confirmed}", r"claims\.yaml: c: status"),
        ("claims.yaml", CLAIM.replace("up", "sideways") + "}", r"claims\.yaml: c: direction"),
        ("claims.yaml", CLAIM.replace("place: p, ", "") + "}", r"claims\.yaml: c: place"),
        ("claims.yaml", CLAIM + ", number: many}", r"claims\.yaml: c: number"),
        ("claims.yaml", CLAIM + "}\n" + CLAIM + "}", r"claims\.yaml.*'c' is there already"),
        ("disagreements.yaml", "- {id: x, question: q, sides: [{claim: c}], decides: d}", r"ts\.yaml: x: sides"),
        ("disagreements.yaml", f"- {{id: x, question: q, {SIDES}}}", r"disagreements\.yaml: x: decides"),
        (
            "disagreements.yaml",
            "- {id: x, question: q, sides: [{claim: c}, {statement: s}], decides: d}",
            r"x: sides\.1.*neither a claim nor a statement with source and place",
        ),
        (
            "disagreements.yaml",
            "- {id: x, question: q, sides: [{claim: c}, {claim: d, place: p}], decides: d}",
            r"x: sides\.1.*the claim's",
        ),
        ("claims.yaml", "- just words", r"claims\.yaml\[0\]"),
    ],
)
def test_a_malformed_record_is_one_line_that_names_file_and_key(tmp_path, file, text, words):
    for name in ("sources.yaml", "claims.yaml", "disagreements.yaml"):
        (tmp_path / name).write_text(text if name == file else "")
    with pytest.raises(UsageError, match=words) as raised:
        read_library(tmp_path)
    assert "\n" not in str(raised.value)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'checklist'"):
        library().source("checklst")
    with pytest.raises(UsageError, match="Did you mean 'noise-scale-grows'"):
        library().claim("noise-scale-grow")


def test_a_source_shows_its_knobs_claims_studies_and_their_verdicts(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    text = "\n".join(f"{head} {rest}" for head, rest in source_lines(library().sources["dpo"], library()))
    assert "topic 1, core, tier 1" in text
    assert "confirmed: A larger β ends nearer to the reference." in text
    (study,) = [line for line in text.splitlines() if line.startswith("study: dpo-beta (")]
    assert "dpo-larger-beta-stays-closer confirmed, " in study
    assert "dpo-beta-holds-exact-labels inconclusive" in study
    assert "optimizer.batch_size" in knobs_of("gns", library())
    assert "optimizer.batch_size" in knobs_of("keskar", library())
    found = source_json(library().sources["gns"], library())
    assert (found["of_the_list"], found["tier"]) == (True, 1)
    assert {one["source"] for one in found["claims"]} == {"gns"}
    studies = source_json(library().sources["smol-course"], library())["studies"]
    assert studies["dpo-beta"] == {"dpo-larger-beta-moves-further": "refuted"}


def test_the_list_goes_by_topic_and_shows_flags():
    lines = source_list(library())
    heads = [head for head, _ in lines]
    assert heads.index("  dpo") < heads.index("2 " + TOPICS[2]) < heads.index("  gns")
    assert heads.index("  meta") < heads.index("Not of the list, but cited") < heads.index("  trl")
    assert len(lines) == len(library().sources) + len(TOPICS) + 1
    entry = dict(lines)["  dsel"]
    assert "[mislabelled]: ST-MoE" in entry
    assert "instead arxiv.org/abs/2402.16827" in entry
    assert "[" not in dict(lines)["  keskar"]


def test_json_of_all_sources_marks_the_list(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    found = sources_json(library())
    assert len(found["reading_list"]) == 29
    assert found["flagged"] == sum(one["flag"] != "none" for one in found["reading_list"]) >= 12
    assert all(one["of_the_list"] for one in found["reading_list"])
    assert not any(one["of_the_list"] for one in found["others"])
    assert len(found["reading_list"]) + len(found["others"]) == len(library().sources)
