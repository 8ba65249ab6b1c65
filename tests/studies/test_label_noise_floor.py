"""The study of one recipe run again: every family trains, repeats alike, and differs by its order."""

import pytest

from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import Conditions, Evidence
from trimpot.knobs.library import library
from trimpot.knobs.noise import floor, repeats
from trimpot.studies.decide import decide
from trimpot.studies.label_noise_floor import FAMILIES, STUDY

SMALL = {
    "subject": "words", "stop_at": 0.3, "sft_steps": 260, "prompts": 64, "pairs": 32, "held_out": 8, "samples": 2,
    "SFT": {"steps": 2, "batch": 8, "learning_rate": 1e-3},
    "DPO": {"steps": 2, "batch": 8, "learning_rate": 1e-3},
    "GRPO": {"steps": 2, "batch": 4, "learning_rate": 1e-3, "group": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("floor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        STUDY.prepare(SMALL, 0, path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_an_order_repeats_and_another_differs(folder, family):
    first, again, other = (STUDY.run({"family": family, "order": order}, SMALL, 0, folder) for order in (0, 0, 1))
    assert first == again
    assert first["kl"] != other["kl"]
    assert first["kl"] != 0


def test_claims_are_known_and_every_budget_has_five_seeds():
    claims = library().claims
    for name, claim in ((name, claims[name]) for name in STUDY.claims):
        assert claim.direction == "equal"
        assert claim.study == STUDY.id
        assert STUDY.margins[name] > 0
    for budget in STUDY.budgets.values():
        assert budget.seeds >= 5
        assert set(STUDY.tests_of(budget)) == set(FAMILIES)
        assert STUDY.control.applies(budget.arms)


def results(shift, seeds):
    """Constructed: the second order is off by ``shift``, and every run by a little that has mean 0."""
    arms = STUDY.budgets["full"].arms
    return {
        arm: {
            str(seed): {"accuracy": 0.5 + shift * (values["order"] == 1) + 0.001 * (-1) ** (seed + values["order"])}
            for seed in seeds
        }
        for arm, values in arms.items()
    }


@pytest.mark.parametrize(("shift", "word"), [(0.0, "confirmed"), (0.1, "refuted")])
def test_equal_orders_are_confirmed_and_an_order_that_differs_is_refuted(shift, word):
    seeds = range(10, 18)
    budget = STUDY.budgets["full"]
    measured = results(shift, seeds)
    for seed in map(str, seeds):  # the control's arms agree, so that verdicts are the tests' own
        measured["DPO, order 2"][seed] = measured["DPO, order 1"][seed]
    tested, control = decide(STUDY, budget, measured, seeds, library().claims)
    assert control.passed
    assert {one.verdict for one in tested.values()} == {word}
    assert all(isinstance(one.effect, Estimate) for one in tested.values())


def test_the_floor_is_read_from_the_arms_of_each_family():
    seeds = tuple(range(10, 18))
    budget = STUDY.budgets["full"]
    conditions = Conditions(STUDY.model, STUDY.scale, "full", {}, {}, None, "now", 1.0)
    found = Evidence(
        STUDY.id, STUDY.question, "hash", seeds, budget.arms, results(0.0, seeds), (), {}, None, conditions
    )  # fmt: skip
    assert {tuple(arms) for arms in repeats(found).values()} == {
        tuple(f"{family}, order {order}" for order in range(3)) for family in FAMILIES
    }
    # ±0.001, ∓0.001, ±0.001 around a mean a third of that: squares (4 + 16 + 4)/9 · 1e-6 over 2.
    assert floor(found, {"family": "GRPO"})["accuracy"] == pytest.approx((24 / 9 / 2) ** 0.5 * 1e-3)
