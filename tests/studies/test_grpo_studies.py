"""The studies on GRPO at their smallest: one seed, a few steps; arms that differ in what they should; claims known."""

import pytest

from trimpot.knobs.library import library
from trimpot.studies import STUDIES, grpo_group_size, grpo_normalisation
from trimpot.studies.subject import prepare_subject

FEW = {"stop_at": 0.3, "sft_steps": 260, "prompts": 64, "held_out": 8, "samples": 2, "steps": 2}
WORDS = {**FEW, "subject": "words", "pairs": 0, "completions": 16}
MIXED = {**FEW, "subject": "lengths", "shortest": 3, "longest": 4, "max_tokens": 8, "batch": 8, "group": 8}
NAMES = ("grpo-group-size", "grpo-normalisation")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("name", NAMES)
def test_every_budget_has_five_seeds_and_a_control_and_all_claims_are_known(name):
    study = STUDIES[name]
    claims = library().claims
    for budget in study.budgets.values():
        assert budget.seeds >= 5
        assert study.control.applies(budget.arms)
    assert set(study.tests_of(study.budgets["full"])) == set(study.tests) == set(study.claims.values())
    for claim in study.claims:
        assert claims[claim].study == name
        assert (claim in study.margins) == (claims[claim].direction == "equal")
    assert len(study.plan("full", 8, claims)["claims"]) == len(study.claims)


def test_arms_have_equal_completions_and_differ_in_one_knob():
    full = grpo_group_size.STUDY.budgets["full"]
    assert {full.settings["completions"] % values["group"] for values in full.arms.values()} == {0}
    divisors = grpo_normalisation.DIVISORS
    one_apart = [
        (grpo_normalisation.PAPER, grpo_normalisation.CONSTANT),
        (grpo_normalisation.CONSTANT, grpo_normalisation.DR_GRPO),
        (grpo_normalisation.PAPER, grpo_normalisation.DAPO),
        (grpo_normalisation.PAPER, f"{grpo_normalisation.PAPER}, other order"),
    ]
    for first, second in one_apart:
        assert sum(divisors[first][knob] != divisors[second][knob] for knob in divisors[first]) == 1


def test_a_run_of_one_group_size_repeats_and_samples_as_many_completions(tmp_path, monkeypatch):
    prepare_subject(WORDS, 0, tmp_path)
    seen = []
    train = grpo_group_size.train_on_groups

    def watched(policy, subject, objective, draws, seed):
        steps = train(policy, subject, objective, draws, seed)
        seen.extend(len(one.records) for one in steps)
        return steps

    monkeypatch.setattr(grpo_group_size, "train_on_groups", watched)
    values = {"order": 0, "learning_rate": 1e-3}
    metrics = {group: grpo_group_size.run({**values, "group": group}, WORDS, 0, tmp_path) for group in (2, 16)}
    assert set(seen) == {16}
    assert metrics[2] == grpo_group_size.run({**values, "group": 2}, WORDS, 0, tmp_path)
    for found in metrics.values():
        assert found.keys() >= {"zero_variance", "accuracy", "kl"}
        assert 0 <= found["zero_variance"] <= 1
    assert metrics[2]["zero_variance"] > metrics[16]["zero_variance"]


def test_a_run_of_each_division_measures_length_and_weight(tmp_path):
    study = grpo_normalisation.STUDY
    study.prepare(MIXED, 0, tmp_path)
    found = {
        name: study.run({**values, "learning_rate": 1e-2}, MIXED, 0, tmp_path)
        for name, values in grpo_normalisation.DIVISORS.items()
    }
    for metrics in found.values():
        assert metrics.keys() >= {"accuracy", "kl", "length", "length/wrong", "excess/wrong", "extremes"}
        assert 0 <= metrics["extremes"] <= 1
    paper = found[grpo_normalisation.PAPER]
    assert paper == study.run(
        {**grpo_normalisation.DIVISORS[grpo_normalisation.PAPER], "learning_rate": 1e-2}, MIXED, 0, tmp_path
    )
    # DAPO and "constant" weigh the tokens of a step alike, up to one factor that AdamW takes out.
    assert len({metrics["kl"] for name, metrics in found.items() if name != grpo_normalisation.DAPO}) == 4
