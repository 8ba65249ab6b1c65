"""The change against the stage before, in words, by hand."""

from __future__ import annotations

from trimpot.recipe.evaluate_stage import change
from trimpot.store.outcomes import Outcome


def outcomes(scores: list[float], names: str = "abcdefgh") -> list[Outcome]:
    return [
        Outcome(
            run="r", weights="w", task="t", item=name, cluster=name, slices={}, perturbation="none", prompt_ids=(1,),
            prompt="p", expected="e", output="o", score=score, status="ok",
        )
        for name, score in zip(names, scores, strict=False)
    ]  # fmt: skip


def test_change_by_hand() -> None:
    before, after = outcomes([0, 0, 0, 0, 1, 1, 1, 1]), outcomes([1, 1, 1, 0, 1, 1, 1, 0])
    # Differences 1 1 1 0 0 0 0 -1: mean .25, s = sqrt((3·.75² + 4·.25² + 1.25²)/7) = .707, s/√8 = .25,
    # t_{.975,7} = 2.365: ±59.1 points; (1.960 + .842)·25 = 70.0.
    expected = "greedy, against sft: +25.0 points [-34.1, +84.1]; 8 items show a true change of 70.0 with power 0.8"
    assert change("greedy", "sft", before, after) == expected


def test_only_common_items_count_and_none_says_nothing() -> None:
    assert change("greedy", "sft", outcomes([0, 1]), outcomes([0, 1], "xy")) == ""
    assert "; 2 items" in change("greedy", "sft", outcomes([0, 1, 1]), outcomes([1, 0], "ab"))


def test_several_outcomes_of_an_item_count_as_their_mean() -> None:
    before = outcomes([0, 0, 1, 1], "aabb")
    after = outcomes([1, 0, 1, 1], "aabb")
    # Item means 0 and 1 become .5 and 1: differences .5 and 0.
    assert change("sampled", "sft", before, after).startswith("sampled, against sft: +25.0 points")
