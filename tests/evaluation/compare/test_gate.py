"""Gates: every rule passes, fails and cannot tell; what is unusable is one line."""

import numpy as np
import pytest
import yaml

from tests.evaluation.compare.made import outcome, side
from trimpot.core.errors import UsageError
from trimpot.evaluation.compare.frames import frame_of
from trimpot.evaluation.compare.gate import RULES, build_gate, check_gate, read_gate
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.evaluation.compare.table import pair


def table(a, b):
    return pair([frame_of(a)], [frame_of(b)], CompareSettings())


def answer(rule, a, b, **gate):
    (found,) = check_gate(build_gate({"rules": [rule], **gate}, "g"), table(a, b))
    return found


def scores(n, changed, to):
    """n right answers of alternating items; the first ``changed`` right ones become ``to``."""
    return [to if i // 2 < changed and i % 2 else float(i % 2) for i in range(n)]


BASE = side(scores(1000, 0, 0.0), "old", slices=lambda i: {"size": "sl"[i < 200]})


def new(changed, n=1000):
    return side(scores(n, changed, 0.0), "new", slices=lambda i: {"size": "sl"[i < 200]})


@pytest.mark.parametrize(("changed", "said"), [(0, "pass"), (10, "pass"), (30, "cannot tell"), (80, "fail")])
def test_non_inferiority_passes_fails_and_cannot_tell(changed, said):
    found = answer({"non_inferior": {"margin": 0.03}}, BASE, new(changed))
    assert found.answer == said
    assert found.outcome == ("pass" if said == "pass" else "fail")
    assert f"{-changed / 1000:+.4f}" in found.reason


def test_what_cannot_be_told_fails_or_warns_as_the_gate_says():
    rule = {"non_inferior": {"margin": 0.03}}
    assert answer(rule, BASE, new(30)).outcome == "fail"
    assert answer({**rule, "unsure": "warn"}, BASE, new(30)).outcome == "warn"
    assert answer(rule, BASE, new(30), unsure="warn").outcome == "warn"
    assert answer({**rule, "unsure": "fail"}, BASE, new(30), unsure="warn").outcome == "fail"
    # A rule that is broken fails, whatever is said of what cannot be told.
    assert answer({**rule, "unsure": "warn"}, BASE, new(80)).outcome == "fail"


def test_one_cluster_or_no_pair_never_passes():
    one = side([1.0, 1.0], "old", cluster="c"), side([1.0, 1.0], "new", cluster="c")
    assert answer({"non_inferior": {"margin": 0.5}}, *one).answer == "cannot tell"
    unscored = side([1.0] * 9, "old"), side([None] * 9, "new", status="unscored")
    for rule in (
        {"non_inferior": {"margin": 0.5}}, {"superior": {}}, {"equivalent": {"margin": 0.5}},
        {"protected_slices": {"slices": ["task"], "margin": 0.5}}, {"calibration_drift": {"most": 0.9}},
        {"length_drift": {"most": 9}}, {"parse_failures": {"most": 0.9}},
    ):  # fmt: skip
        assert answer(rule, *unscored).outcome == "fail", rule
        assert answer(rule, *unscored).answer == "cannot tell", rule


def test_superiority_and_equivalence():
    better = side([1.0 if i < 100 else float(i % 2) for i in range(1000)], "new")
    assert answer({"superior": {}}, BASE, better).answer == "pass"
    assert answer({"superior": {"margin": 0.2}}, BASE, better).answer == "fail"
    assert answer({"superior": {}}, BASE, new(0)).answer == "cannot tell"
    assert answer({"equivalent": {"margin": 0.02}}, BASE, new(2)).answer == "pass"
    assert answer({"equivalent": {"margin": 0.02}}, BASE, new(100)).answer == "fail"
    assert answer({"equivalent": {"margin": 0.02}}, BASE, new(20)).answer == "cannot tell"


def test_a_protected_slice_fails_where_the_whole_would_pass():
    # 40 losses, all among the first 200 items: 20 points there, 4 points over all.
    rule = {"protected_slices": {"slices": ["size"], "margin": 0.06}}
    assert answer({"non_inferior": {"margin": 0.06}}, BASE, new(40)).answer == "pass"
    found = answer(rule, BASE, new(40))
    assert found.answer == "fail"
    assert "size=l" in found.reason
    assert answer(rule, BASE, new(0)).answer == "pass"
    only = {"protected_slices": {"slices": ["size=s"], "margin": 0.06}}
    assert answer(only, BASE, new(40)).answer == "pass"
    assert answer({"protected_slices": {"slices": ["size"], "margin": 0.01}}, BASE, new(1)).answer == "cannot tell"


def safety(attacks, refusals, weights):
    """200 attacks (lower is better) and 200 harmless requests (refused: lower is better)."""
    kinds = (("attack", attacks, "safety"), ("harmless", refusals, "safety"))
    return [
        outcome(f"{task} {i}", float(i < count), weights=weights, task=task, better="lower", metric_group=group)
        for task, count, group in kinds
        for i in range(200)
    ]


def test_fewer_attacks_bought_with_refusals_fail():
    rule = {
        "safety": {"attack_success": {"task": "attack"}, "over_refusal": {"task": "harmless"}, "margin": 0.05}
    }  # fmt: skip
    assert answer(rule, safety(60, 10, "old"), safety(10, 10, "new")).answer == "pass"
    found = answer(rule, safety(60, 10, "old"), safety(0, 60, "new"))
    assert found.answer == "fail"
    assert "over-refusal (harmless): improvement -0.2500" in found.reason
    assert answer(rule, safety(10, 10, "old"), safety(60, 10, "new")).answer == "fail"


def with_details(weights, confidence, tokens, n=600):
    generator = np.random.default_rng(0)
    right = generator.random(n) < 0.7
    return side(
        right.astype(float).tolist(), weights, confidence=confidence, tokens=lambda i: tokens + i % 5,
        status=lambda i: "ok",
    )  # fmt: skip


def test_calibration_and_length_drift():
    old = with_details("old", 0.7, 100)
    assert answer({"calibration_drift": {"most": 0.05}}, old, with_details("new", 0.71, 100)).answer == "pass"
    assert answer({"calibration_drift": {"most": 0.05}}, old, with_details("new", 0.95, 100)).answer == "fail"
    bounds = {"length_drift": {"least": 0.8, "most": 1.25}}
    assert answer(bounds, old, with_details("new", 0.7, 110)).answer == "pass"
    assert answer(bounds, old, with_details("new", 0.7, 150)).answer == "fail"
    assert answer(bounds, old, with_details("new", 0.7, 50)).answer == "fail"
    assert answer(bounds, old, side([1.0] * 600, "new")).answer == "cannot tell"


def test_answers_that_cannot_be_read():
    broken = side([1.0] * 300, "new", status=lambda i: "ok" if i > 60 else "parse_failed")
    assert answer({"parse_failures": {"most": 0.02}}, side([1.0] * 300, "old"), broken).answer == "fail"
    assert (
        answer({"parse_failures": {"most": 0.02}}, side([1.0] * 300, "old"), side([1.0] * 300, "new")).answer == "pass"
    )


def test_a_rule_on_some_items():
    where = {"where": {"slice": {"size": "l"}}, "margin": 0.05}
    assert answer({"non_inferior": where}, BASE, new(40)).answer == "fail"
    assert answer({"non_inferior": {**where, "where": {"slice": {"size": "s"}}}}, BASE, new(40)).answer == "pass"


def test_the_example_of_the_documentation_is_a_gate(request):
    text = (request.config.rootpath / "docs/compare.md").read_text(encoding="utf-8")
    (block,) = [part.split("```")[0] for part in text.split("```yaml")[1:] if "rules:" in part]
    gate = build_gate(yaml.safe_load(block), "docs")
    assert {rule.kind for rule in gate.rules} == set(RULES)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "rules: [{non_inferor: {margin: 1}}]",
            r"rules\[0\]: non_inferor: is not a key here. Did",
        ),
        ("rule: []", "rule: is not a key here. Did you mean 'rules'"),
        ("rules: []", "rules: there are none"),
        ("[]", "is not a mapping"),
        ("rules: [{non_inferior: {}}]", "non_inferior: margin is missing"),
        ("rules: [{non_inferior: {margin: much}}]", "'much' is no number"),
        ("rules: [{non_inferior: {margin: .nan}}]", "nan is no number"),
        ("rules: [{non_inferior: {margin: -1}}]", "-1 is no number of 0 or more"),
        ("rules: [{non_inferior: {margin: 1, wher: {}}}]", "wher: is not a key here. Did you mean 'where'"),
        ("rules: [{non_inferior: {margin: 1, where: {tsk: x}}}]", "tsk: is not a key here. Did you mean 'task'"),
        ("rules: [{non_inferior: {margin: 1}, superior: {}}]", "has 2 kinds of rule"),
        ("rules: [{name: x}]", "has 0 kinds of rule"),
        ("rules: [{superior: {}, unsure: pass}]", "'pass' is not a choice. Give fail or warn"),
        ("rules: [{length_drift: {most: 1, least: 2}}]", "least is not below most"),
        ("rules: [{protected_slices: {slices: [], margin: 1}}]", "is no list of names"),
        ("compare: {margn: 1}\nrules: [{superior: {}}]", "margn: is not a key here. Did you mean 'margin'"),
        ("compare: {correction: none}\nrules: [{superior: {}}]", "'none' is not a choice"),
        ("compare: {looks: 1.5}\nrules: [{superior: {}}]", "1.5 is no whole number"),
        ("rules: [{superior: {}}]\nrules: [{superior: {}}]", ":2: the key 'rules' is there twice"),
        ("rules: [", "is not valid YAML"),
    ],
)
def test_an_unusable_gate_is_one_line(tmp_path, text, line):
    file = tmp_path / "gate.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=line) as error:
        read_gate(file)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ({"task": "tt"}, "where.task: no item has 'tt'. Did you mean 't'"),
        ({"slice": {"siz": "l"}}, "no item has a slice 'siz'. Did you mean 'size'"),
        ({"slice": {"size": "x"}}, "slice.size: no item has 'x'"),
        ({"group": "acuracy"}, "group: no item has 'acuracy'. Did you mean 'accuracy'"),
        ({"perturbation": "typos"}, "perturbation: no item has 'typos'"),
    ],
)
def test_a_rule_about_items_that_are_not_there_is_unusable(where, line):
    with pytest.raises(UsageError, match=line):
        answer({"non_inferior": {"where": where, "margin": 1}}, BASE, new(0))


def test_a_rule_over_several_metric_groups_is_unusable():
    bits = {"metric_group": "perplexity", "better": "lower", "task": "text"}
    a, b = ([*one, outcome("t", 2.0, weights=one[0].weights, **bits)] for one in (BASE, new(0)))
    with pytest.raises(UsageError, match=r"several metric groups \(accuracy, perplexity \(lower is better\)\)"):
        answer({"non_inferior": {"margin": 1}}, a, b)
    assert answer({"non_inferior": {"margin": 0.02, "where": {"group": "accuracy"}}}, a, b).answer == "pass"
    with pytest.raises(UsageError, match="Did you mean 'size'"):
        answer({"protected_slices": {"slices": ["sizes"], "margin": 1}}, BASE, new(0))


def test_no_such_gate(tmp_path):
    with pytest.raises(UsageError, match="no such gate"):
        read_gate(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        read_gate(tmp_path / "bytes.yaml")
