"""How checks are run: statuses, time, progress, and the numbers of single rules worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.preflight import bench
from trimpot.core.errors import UsageError
from trimpot.core.rows import ChatRow, Message, Origin, PreferencePair
from trimpot.core.samples import Branch, Sample
from trimpot.core.tensors import pack_one
from trimpot.preflight.baselines import at_least, by_place
from trimpot.preflight.check import (
    NOT_APPLICABLE,
    OUT_OF_TIME,
    Built,
    Check,
    Deadline,
    Found,
    NotApplicableError,
    OutOfTimeError,
)
from trimpot.preflight.initial import unigram_entropy
from trimpot.preflight.parts import Gradient
from trimpot.preflight.run import run_checks
from trimpot.preflight.settings import PreflightSettings
from trimpot.preflight.table import CHECKS, chosen
from trimpot.preflight.zeroed import PromptsZeroed, beats, crossed, target_places


def check_of(run: object) -> Check:
    return Check("own", "Does it?", "always", 5, "Mend it.", run)


def test_a_check_says_passed_failed_not_applicable_or_out_of_time() -> None:
    def late(built: Built, deadline: Deadline) -> Found:
        raise OutOfTimeError("3 of 9 steps were done")

    def elsewhere(built: Built, deadline: Deadline) -> Found:
        raise NotApplicableError("there are no rows")

    def plain(passed: bool) -> object:
        return lambda built, deadline: Found(passed, 2.0, "two")

    told = []
    stage = bench.built("sft", scratch=True)
    checks = [check_of(run) for run in (plain(True), plain(False), elsewhere, late)]
    results = run_checks(stage, checks, lambda done, total: told.append((done, total)))
    assert [one.status for one in results] == ["passed", "failed", NOT_APPLICABLE, OUT_OF_TIME]
    assert [one.measured for one in results] == [2.0, 2.0, None, None]
    assert results[1].line() == "sft: own: two. Mend it."
    assert results[3].text == "5 s are over; 3 of 9 steps were done"
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_long_check_stops_between_steps_when_its_time_is_over() -> None:
    check = dataclasses.replace(CHECKS["overfit"], seconds=0.0)
    (result,) = run_checks(bench.built("sft", scratch=True), [check])
    assert (result.status, result.text) == (OUT_OF_TIME, "0 s are over; 1 of 300 steps were done")


def test_a_deadline_counts_down() -> None:
    now = [10.0]
    deadline = Deadline(3.0, lambda: now[0])
    now[0] = 12.0
    assert deadline.left == 1.0
    deadline.ask("half")
    now[0] = 14.0
    assert deadline.left == 0.0
    with pytest.raises(OutOfTimeError, match="half"):
        deadline.ask("half")


def test_without_a_model_rows_are_checked_and_nothing_else() -> None:
    stage = dataclasses.replace(bench.built("sft", scratch=True), trainee=None, plan=None)
    results = {one.check: one.status for one in run_checks(stage, list(CHECKS.values()))}
    assert {name for name, status in results.items() if status == "passed"} == {
        name for name, check in CHECKS.items() if check.rows_only
    }
    assert results["future_leak"] == NOT_APPLICABLE


def test_checks_are_chosen_by_depth_and_by_name() -> None:
    cheap = {check.id for check in chosen(False)}
    assert "accumulation" in cheap
    assert "overfit" not in cheap
    assert {check.id for check in chosen(True)} == set(CHECKS)
    assert [check.id for check in chosen(False, only=("overfit", "duplicates"))] == ["duplicates", "overfit"]
    assert "accumulation" not in {check.id for check in chosen(True, skip=("accumulation",))}


def test_a_misspelt_check_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'acumulation' is not a check\. Did you mean 'accumulation'"):
        PreflightSettings(("acumulation",))


def test_unigram_entropy_by_hand() -> None:
    assert unigram_entropy([1, 1, 2, 2]) == pytest.approx(math.log(2))
    assert unigram_entropy([7, 7, 7]) == 0
    # 1/2, 1/4, 1/4: 1.5 bits.
    assert unigram_entropy([1, 1, 2, 3]) == pytest.approx(1.5 * math.log(2))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_unigram_entropy_is_at_most_that_of_equal_shares(tokens: list[int]) -> None:
    assert -1e-12 <= unigram_entropy(tokens) <= math.log(len(set(tokens))) + 1e-12


def test_paired_differences_by_hand() -> None:
    # mean 2, standard deviation sqrt(2/3) = 0.8165, over sqrt(4): 0.408; 3 of them are 1.22.
    found = beats([2.0, 1.0, 3.0, 2.0], "nats")
    assert found.passed
    assert found.measured == 2.0
    # mean 1 and a deviation of 2: error 1, 3 of them are 3.
    assert not beats([3.0, -1.0, 3.0, -1.0], "nats").passed
    with pytest.raises(NotApplicableError):
        beats([1.0, 1.0, 1.0], "nats")


def test_the_distance_of_gradients_by_hand() -> None:
    one = Gradient(1.0, {"a": torch.tensor([3.0, 4.0]), "b": None})
    other = Gradient(1.0, {"a": torch.tensor([3.0, 3.0]), "b": None})
    assert one.norm() == 5.0
    assert one.distance(other) == pytest.approx(1 / 5)
    assert one.distance(Gradient(1.0, {"a": None, "b": torch.tensor([12.0])})) == pytest.approx(13 / 5)
    assert Gradient(1.0, {"a": torch.zeros(2)}).distance(Gradient(1.0, {"a": torch.ones(2)})) == 1.0


def sample(row: str, prefix: tuple[int, ...], *answers: tuple[int, ...]) -> Sample:
    return Sample(row, prefix, tuple(Branch(ids, (True,) * len(ids)) for ids in answers))


def test_frequencies_by_place_by_hand() -> None:
    trained = [sample("1", (0,), (5, 9)), sample("2", (0,), (5, 9)), sample("3", (0,), (6, 9))]
    losses, accuracy = by_place(trained, [sample("4", (0,), (5, 9)), sample("5", (0,), (7, 9))])
    # First place: 5 twice, 6 once, one count more for each and for what was not seen: 3/6, 2/6, 1/6. Second: 4/5.
    assert losses == pytest.approx([(math.log(2) - math.log(0.8)) / 2, (math.log(6) - math.log(0.8)) / 2])
    assert accuracy == 3 / 4


def test_the_chance_of_a_fair_coin_by_hand() -> None:
    assert at_least(4, 4) == 1 / 16
    assert at_least(3, 4) == 5 / 16
    assert at_least(0, 4) == 1


def test_target_places_of_branches_that_follow_a_prefix() -> None:
    text = Sample("3", (), (Branch((7, 8), (False, True)),))
    batch = pack_one([sample("1", (1, 2), (3, 4), (5, 6)), text])
    assert batch.ids_T[target_places(batch)].tolist() == batch.target_ids_N.tolist() == [3, 4, 5, 6, 8]


def test_prompts_are_zeroed_and_answers_are_not() -> None:
    stage = bench.built("sft", scratch=True)
    zeroed = PromptsZeroed(stage.trainee)
    batch = pack_one([stage.samples[0]])
    kept = zeroed._kept(batch)
    mask = stage.samples[0].branches[0].supervised
    assert kept.tolist() == [float(target) for target in mask]
    # Of plain text every token but the first is a target: there is no prompt, so all of it is zeroed.
    text = Sample("text", (), (Branch((7, 8, 9), (False, True, True)),))
    assert zeroed._kept(pack_one([text])).tolist() == [0.0, 0.0, 0.0]


def test_crossed_pairs_have_no_answer_that_is_better_by_itself() -> None:
    one, other = sample("1", (1,), (3,), (8,)), sample("2", (2,), (4,), (9,))
    made = crossed([one, other])
    assert [(row.prefix, row.branches[0].ids, row.branches[1].ids) for row in made] == [
        ((1,), (3,), (4,)),
        ((2,), (4,), (3,)),
    ]
    with pytest.raises(NotApplicableError):
        crossed([one, one])


def test_a_pair_with_its_answers_exchanged_is_the_same_pair() -> None:
    turns = (Message("user", "say"),), (Message("assistant", "yes"),), (Message("assistant", "no"),)
    pair = PreferencePair(*turns, origin=Origin("pairs.jsonl", 1))
    swapped = PreferencePair(turns[0], turns[2], turns[1], origin=Origin("pairs.jsonl", 2))
    (result,) = run_checks(bench.built("preference", rows=[pair, swapped]), [CHECKS["duplicates"]])
    assert result.text == "1 of 2 rows are there twice: pairs.jsonl:2 as pairs.jsonl:1"


def test_truncation_fails_above_five_in_a_hundred() -> None:
    stage = bench.built("sft", scratch=True)
    for cut, status in ((5, "passed"), (6, "failed")):
        (result,) = run_checks(dataclasses.replace(stage, truncated_rows=cut), [CHECKS["truncation"]])
        assert (result.status, result.measured) == (status, cut / 100)


@pytest.mark.parametrize("mask", ["assistant", "last_turn", "completion", "all"])
def test_every_mask_decodes_to_what_it_says(mask: str) -> None:
    from trimpot.data.prepare import tokenise

    stage = bench.built("sft", scratch=True)
    rows = [
        ChatRow(
            (Message("user", "a"), Message("assistant", "first"), Message("user", "b"), Message("assistant", "last")),
            origin=Origin("rows.jsonl", 1),
        )
    ]
    samples = tokenise(rows, stage.template, 200, mask).samples
    stage = dataclasses.replace(stage, rows=rows, samples=samples, mask=mask)
    decoded, template = run_checks(stage, [CHECKS["decoded_targets"], CHECKS["template"]])
    assert decoded.status == "passed", decoded.text
    assert template.status == ("passed" if mask != "all" else NOT_APPLICABLE), template.text
    shown = decoded.details["rows"][0]["targets"]
    assert (shown == ["first<|im_end|>", "last<|im_end|>"]) == (mask == "assistant")
    # The same ids under another mask than is told are caught, where they differ.
    wider = dataclasses.replace(stage, samples=tokenise(rows, stage.template, 200, "all").samples)
    (result,) = run_checks(wider, [CHECKS["decoded_targets"]])
    assert result.status == ("passed" if mask == "all" else "failed")


def test_an_end_that_is_masked_is_caught() -> None:
    stage = bench.built("sft", scratch=True)
    samples = [
        dataclasses.replace(
            one,
            branches=tuple(
                dataclasses.replace(
                    branch,
                    supervised=tuple(
                        flag and token not in stage.template.stop_ids
                        for token, flag in zip(branch.ids, branch.supervised, strict=True)
                    ),
                )
                for branch in one.branches
            ),
        )
        for one in stage.samples
    ]
    (result,) = run_checks(bench.with_samples(stage, samples), [CHECKS["decoded_targets"]])
    assert result.status == "failed"
    assert "do not end with a token that ends a turn" in result.text
