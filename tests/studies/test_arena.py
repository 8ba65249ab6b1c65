"""The arena: operations against hand counts, budgets that are kept, tricks read back, leads and crossings."""

import dataclasses
import functools
import json
import math
import types

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from trimpot.core.rows import Message, PromptRow
from trimpot.data.template import ChatTemplate
from trimpot.knobs.library import library
from trimpot.models.tiny import tiny
from trimpot.rollout.engine import generate
from trimpot.rollout.sampling import SamplingSettings
from trimpot.store.ledger import Ledger
from trimpot.studies import STUDIES, arena
from trimpot.studies.arena_runs import (
    Costs,
    allocate,
    answer,
    costs_of,
    crossing,
    fine_tune,
    samples_of,
    score,
    words_of,
)
from trimpot.studies.arena_tricks import PLAIN, TRICKS, numbered
from trimpot.studies.chart import draw
from trimpot.studies.flops import measured_flops
from trimpot.studies.measures import GapSlope
from trimpot.studies.runner import run_study
from trimpot.studies.study import Budget, Tuning
from trimpot.training.settings import LoopSettings

STUDY = STUDIES["arena"]
SMALL = {"unit_steps": 6, "batch": 8, "rows": 64, "questions": 16}


def test_operations_of_products_by_hand():
    """[2, 3] by [3, 4]: 2·2·3·4 = 48, and twice that backward; in place and batched the same."""
    one, other = torch.ones(2, 3, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    assert measured_flops(lambda: one @ other) == 48
    assert measured_flops(lambda: (one @ other).sum().backward()) == 3 * 48
    assert measured_flops(lambda: torch.zeros(2, 4).addmm_(one.detach(), other.detach())) == 48
    assert measured_flops(lambda: torch.ones(5, 2, 3) @ torch.ones(5, 3, 4)) == 5 * 48
    assert measured_flops(lambda: torch.ones(7) + 1) == 0


def test_operations_of_attention_by_hand():
    """Two heads, 3 queries, 5 keys, size 4: 4·3·5·4·2 = 480 forward, 2.5 times that backward."""
    query, key, value = (torch.ones(1, 2, length, 4, requires_grad=True) for length in (3, 5, 5))
    with torch.no_grad():
        assert measured_flops(lambda: scaled_dot_product_attention(query, key, value)) == 480
    assert measured_flops(lambda: scaled_dot_product_attention(query, key, value).sum().backward()) == 3.5 * 480


def test_operations_of_a_training_step_are_those_counted_by_hand():
    """6 a token and weight of the trunk, 6 a target and weight of the head, 3.5 · 4L²D a row, head and layer."""
    trick, (rows, _) = TRICKS[PLAIN], words_of(SMALL, 0)
    policy = tiny("0.1m", seed=0)
    pace = LoopSettings(steps=1, batch=8)
    measured = measured_flops(functools.partial(fine_tune, trick, policy, rows, pace, 1e-3, 0))
    linear = [layer.weight.numel() for layer in policy.model.base_model.modules() if isinstance(layer, torch.nn.Linear)]
    sample, config = samples_of(trick, rows, policy)[0], policy.model.config
    head = policy.head()[0].numel()
    attention = 3.5 * 4 * sample.tokens**2 * config.head_dim * config.num_attention_heads * config.num_hidden_layers
    assert measured == pytest.approx(
        8 * (6 * (sample.tokens * sum(linear) + sample.targets * head) + attention), rel=0.01
    )


def test_operations_of_generation_do_not_depend_on_the_layout_of_weights(monkeypatch):
    policy, (_, questions) = tiny("0.1m", seed=0), words_of({**SMALL, "questions": 64}, 0)
    prompts = [ChatTemplate(policy.tokenizer).prompt(row) for row in questions]
    work = functools.partial(generate, policy, prompts, 2, SamplingSettings(max_tokens=5), 0)
    packed = measured_flops(work)
    monkeypatch.setattr("trimpot.rollout.engine.PACK_FROM", 10**9)
    assert measured_flops(work) == packed > 0


def test_costs_tell_what_many_answers_and_steps_take():
    """A model that has learned to stop takes no more than the untrained one on which costs are measured."""
    settings = {**SMALL, "questions": 64}
    for name in ("best-of-n", "numbered"):
        trick = TRICKS[name]
        costs = costs_of(trick, settings, 0)
        policy, (rows, questions) = tiny("0.1m", seed=0), words_of(settings, 0)
        trained = measured_flops(
            functools.partial(fine_tune, trick, policy, rows, LoopSettings(steps=5, batch=8), 1e-3, 0)
        )
        assert trained == pytest.approx(5 * costs.step, rel=0.01)
        answered = measured_flops(functools.partial(answer, trick, policy, questions, 6, 3))
        assert answered == pytest.approx(costs.spent(0, 6), rel=0.05)


def test_budgets_are_allocated_by_hand():
    """100 operations, steps of 10, a first answer of 20, further ones of 5: an eighth buys two more, 70 are 7 steps."""
    costs = Costs(step=10.0, answer=20.0, further=5.0)
    assert allocate(100.0, costs, 0.0) == (8, 1)
    assert allocate(100.0, costs, 1 / 8) == (7, 3)
    assert costs.spent(7, 3) == 100
    with pytest.raises(ValueError, match="no step"):
        allocate(29.0, costs, 0.0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_no_budget_is_overdrawn_nor_is_a_step_left_over(share):
    costs = Costs(step=7.0, answer=11.0, further=3.0)
    for budget in range(60, 300, 7):
        spent = costs.spent(*allocate(float(budget), costs, share))
        assert budget - costs.step < spent <= budget


def test_every_trick_reads_back_the_answer_that_it_shows():
    assert numbered("abcd", "dcba") == ("1a2b3c4d", "4d3c2b1a")
    for row in words_of(SMALL, 0)[0][:20]:
        for trick in TRICKS.values():
            assert trick.read(trick.shown(row.prompt[-1].content, row.answer)[1]) == row.answer


def test_learned_and_asked_words_are_apart():
    rows, questions = words_of(SMALL, 0)
    assert (len(rows), len(questions)) == (64, 16)
    assert not {row.id for row in rows} & {row.id for row in questions}


def test_scores_by_hand():
    """Of two questions the first has a right answer that is outvoted, the second only one without end."""
    questions = [PromptRow((Message("user", word),), word[::-1]) for word in ("ab", "cd")]
    outvoted = score([["aa", "ba", "aa", None], [None] * 4], questions)
    assert outvoted == {"accuracy": 0.5, "majority": 0.0, "letters": 0.5}
    assert score([["ba"], ["dc"]], questions) == {"accuracy": 1.0, "majority": 1.0, "letters": 1.0}


def test_a_search_draws_several_answers_and_others_one_greedily():
    policy, (_, questions) = tiny("0.1m", seed=0), words_of(SMALL, 0)
    once = [answer(TRICKS[PLAIN], policy, questions, 1, seed) for seed in (0, 1)]
    assert once[0] == once[1]
    assert [len(texts) for texts in answer(TRICKS["best-of-n"], policy, questions, 3, 0)] == [3] * 16


def test_crossings_by_hand():
    """On a logarithm −1 at 1 and 1 at 4 meet at 2; of two changes the last counts."""
    assert crossing({4.0: 1.0, 1.0: -1.0}) == pytest.approx(2.0)
    assert crossing({1.0: 1.0, 4.0: -1.0, 16.0: 1.0}) == pytest.approx(8.0)
    assert crossing({1.0: 1.0, 4.0: 0.5}) is None
    assert crossing({}) is None


def test_leads_are_of_means_and_leave_the_control_out():
    arms = {
        "p": {"trick": PLAIN, "budget": 1, "order": 0},
        "p again": {"trick": PLAIN, "budget": 1, "order": 1},
        "t": {"trick": "cosine", "budget": 1, "order": 0},
        "t, 2": {"trick": "cosine", "budget": 2, "order": 0},
    }
    results = {"p": {"0": {"accuracy": 0.25}, "1": {"accuracy": 0.75}}, "p again": {"0": {"accuracy": 9.0}}}
    results |= {"t": {"0": {"accuracy": 0.75}}, "t, 2": {"0": {"accuracy": 1.0}}}
    evidence = types.SimpleNamespace(arms=arms, results=results)
    assert arena.lead_by_budget(evidence, "cosine") == {1.0: 0.25}


def test_the_slope_of_a_gap_by_hand():
    """Gaps of 0, 0.1, 0.2 at knob 1, e, e²: 0.1, whatever both have in common."""
    arms, metrics = {}, {}
    for power in range(3):
        for side, value in (("one", power**2 + 0.1 * power), ("other", power**2)):
            arms[f"{side} {power}"] = {"knob": math.exp(power), "side": side}
            metrics[f"{side} {power}"] = {"y": value}
    slope = GapSlope("y", "knob", {"side": "one"}, {"side": "other"}, "w")
    assert slope.applies(arms)
    assert slope.value(arms, metrics) == pytest.approx(0.1)
    assert slope.value(arms, {**metrics, "one 2": {}}) is None
    assert not slope.applies({name: knobs for name, knobs in arms.items() if name != "one 2"})
    assert not slope.applies({name: knobs for name, knobs in arms.items() if knobs["side"] == "one"})
    assert json.loads(json.dumps(slope.describe()))["kind"] == "slope of a gap"


def test_every_trick_has_all_budgets_and_these_span_sixteen_times():
    claims = library().claims
    assert all(claims[name].study == STUDY.id for name in STUDY.claims)
    for budget in STUDY.budgets.values():
        for trick in TRICKS:
            spent = sorted(arm["budget"] for arm in budget.arms.values() if arm["trick"] == trick and not arm["order"])
            assert len(spent) >= 4
            assert spent[-1] / spent[0] == 16
        assert STUDY.control.applies(budget.arms)
        assert set(STUDY.claims.values()) == set(STUDY.tests_of(budget))


def test_a_small_run_spends_equally_and_ends_with_verdicts_and_a_chart(tmp_path):
    whole = STUDY.budgets["full"].arms
    arms = {name: arm for name, arm in whole.items() if arm["budget"] in (1, 4) and arm["trick"] in (PLAIN, "numbered")}
    arms["best-of-n, budget 1"] = whole["best-of-n, budget 1"]
    small = dataclasses.replace(
        STUDY, budgets={"quick": Budget(arms, 2, SMALL)}, tuning=Tuning(values=(1e-3,), seeds=(0,))
    )
    evidence = run_study(small, Ledger(f"sqlite:///{tmp_path}/ledger.db"), tmp_path / "work", workers=1)
    assert set(evidence.tested) == {"prior-helps-at-first", "prior-plateaus"}
    folder = tmp_path / "costs"
    folder.mkdir()
    arena.prepare(SMALL, 0, folder)
    costs = json.loads((folder / "costs.json").read_text())
    for name, runs in evidence.results.items():
        step = costs[arms[name]["trick"]]["step"]
        for run in runs.values():
            assert run["budget_flops"] == arms[name]["budget"] * 6 * costs[PLAIN]["step"]
            assert run["budget_flops"] - step < run["flops"] <= run["budget_flops"]
    fewer = evidence.results["numbered, budget 4"]["10"]["steps"]
    assert fewer < evidence.results["plain, budget 4"]["10"]["steps"]
    assert evidence.results["best-of-n, budget 1"]["10"]["answers"] > 1
    assert draw(evidence, STUDY.chart, tmp_path / "chart.svg").read_text().startswith("<svg")
