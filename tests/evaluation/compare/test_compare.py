"""The comparison: pairing, what is left out and said, verdicts by slice, direction, seeds."""

import dataclasses
import json
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.compare.made import outcome, side
from trimpot.core.errors import UsageError
from trimpot.evaluation.compare.compare import compare, compare_frames
from trimpot.evaluation.compare.frames import frame_of, read_frame
from trimpot.evaluation.compare.result import items_to_decide
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.statistics.clustered import clustered_difference, flip_size
from trimpot.statistics.multiple import benjamini_hochberg, holm
from trimpot.store.outcomes import write_outcomes


def right(p, n, seed):
    return [float(value) for value in np.random.default_rng(seed).random(n) < p]


def test_example_by_hand():
    a = side([1.0, 1.0, 0.0, *[0.0] * 97], "old")
    b = side([0.0, 1.0, 1.0, *[0.0] * 97], "new")
    row = compare(a, b).row("all")
    assert row.interval.value == 0.0
    assert (row.flips.gained, row.flips.lost, row.flips.p_value) == (1, 1, 1.0)
    assert (row.mean_a, row.mean_b, row.counts.paired) == (0.02, 0.02, 100)


def test_the_difference_is_that_of_the_statistics_whatever_the_order():
    a, b = right(0.4, 60, 1), right(0.6, 60, 2)
    cluster = {"cluster": lambda i: f"c{i // 4}"}
    first, second = side(a, "old", **cluster), side(b, "new", **cluster)[::-1]
    row = compare(first, second).row("all")
    d = np.subtract(b, a)
    assert row.difference.components == (
        pytest.approx(clustered_difference(d, [i // 4 for i in range(60)], flip_size(a, b)).components[0]),
    )
    assert (row.difference.clusters, row.counts.paired) == (15, 60)
    assert row.flips.p_value is None  # McNemar's test knows no clusters


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("ab")), min_size=2, max_size=30))
@settings(max_examples=30, deadline=None)
def test_swapping_the_sides_turns_every_sign(rows):
    slices = {"slices": lambda i: {"kind": rows[i][2]}}
    a, b = (side([float(row[place]) for row in rows], name, **slices) for place, name in ((0, "old"), (1, "new")))
    turned = {"better": "worse", "worse": "better"}
    for one, other in zip(compare(a, b).rows, compare(b, a).rows, strict=True):
        assert one.interval.value == -other.interval.value
        assert (one.flips.gained, one.flips.lost) == (other.flips.lost, other.flips.gained)
        assert one.verdict == turned.get(other.verdict, other.verdict)
        assert one.p_adjusted == pytest.approx(other.p_adjusted)


def test_positive_is_an_improvement_where_lower_is_better_too():
    a, b = side([2.0, 2.1, 2.2, 2.3], "old", better="lower"), side([1.0, 1.2, 1.1, 1.4], "new", better="lower")
    row = compare(a, b).row("all")
    assert row.interval.value == pytest.approx(0.975)
    assert row.verdict == "better"
    assert row.mean_b < row.mean_a
    assert row.key.group == "accuracy (lower is better)"
    harmful = compare(side([1.0, 0.0], "old", better="lower"), side([0.0, 0.0], "new", better="lower")).row("all")
    assert (harmful.flips.gained, harmful.flips.lost) == (1, 0)


def test_samples_of_an_item_are_averaged_first():
    a = [outcome(i, score, sample=s, weights="old") for i in range(2) for s, score in enumerate((1.0, 0.0))]
    b = [outcome(i, score, sample=s, weights="new") for i in range(2) for s, score in enumerate((1.0, 1.0, 0.0, 1.0))]
    row = compare(a, b).row("all")
    assert (row.counts.paired, row.mean_a, row.mean_b) == (2, 0.5, 0.75)
    assert row.difference.items == 2


def test_pass_at_k_of_samples():
    a = [outcome(i, float(s == 0), sample=s, weights="old") for i in range(4) for s in range(4)]
    b = [outcome(i, float(s < 2), sample=s, weights="new") for i in range(4) for s in range(4)]
    any_of = compare(a, b, CompareSettings(score="pass@2")).row("all")
    # 1 − C(3, 2)/C(4, 2) and 1 − C(2, 2)/C(4, 2).
    assert (any_of.mean_a, any_of.mean_b) == (pytest.approx(1 / 2), pytest.approx(5 / 6))
    assert compare(a, b, CompareSettings(score="pass^2")).row("all").mean_b == pytest.approx(1 / 6)
    with pytest.raises(UsageError, match="no item has 9 scored samples"):
        compare(a, b, CompareSettings(score="pass@9"))
    with pytest.raises(UsageError, match="0 and 1"):
        compare(side([0.5], "old"), side([0.5], "new"), CompareSettings(score="pass@1"))
    few = compare([*a, outcome(9, 1.0)], [*b, outcome(9, 1.0)], CompareSettings(score="pass@2")).row("all")
    assert (few.counts.paired, few.counts.unscored, few.counts.failed_a) == (4, 1, 1)


def test_nothing_is_dropped_in_silence():
    a = [
        outcome(0, 1.0), outcome(1, None, status="error"), outcome(2, None, status="unscored"),
        outcome(3, 0.0, status="parse_failed"), outcome(4, 1.0), outcome(5, float("nan")), outcome(6, 1.0),
    ]  # fmt: skip
    b = [outcome(i, 1.0, weights="new") for i in range(4)] + [outcome(i, 1.0, weights="new") for i in (5, 6, 8, 9)]
    found = compare(a, b)
    counts = found.row("all").counts
    assert (counts.paired, counts.only_a, counts.only_b, counts.unscored) == (3, 1, 2, 3)
    assert (counts.failed_a, counts.failed_b) == (3, 0)
    assert sum((counts.paired, counts.only_a, counts.only_b, counts.seeds, counts.unscored)) == 9
    (said,) = [text for text in found.warnings if "left out" in text]
    assert "3 items are compared" in said
    assert "1 only on A's side, 2 only on B's side, 3 without a score" in said


def test_an_answer_that_cannot_be_read_scores_worst_and_is_compared():
    a = side([1.0] * 40, "old")
    b = side([1.0] * 30 + [None] * 10, "new", status=lambda i: "ok" if i < 30 else "parse_failed")
    row = compare(a, b).row("all")
    assert (row.mean_b, row.counts.paired) == (0.75, 40)
    assert row.parse_failed[:2] == (0.0, 0.25)
    assert row.parse_failed[2].low > 0
    # Where lower is better, 0 would be a prize: the worst is 1.
    harm = side([0.0, None], "new", better="lower", status=lambda i: "ok" if i == 0 else "parse_failed")
    assert compare(side([0.0, 0.0], "old", better="lower"), harm).row("all").mean_b == 0.5
    # Scores without an end have no worst: it is left out and counted.
    far = side([7.0, 3.0, 0.0], "new", better="lower", status=lambda i: "ok" if i < 2 else "parse_failed")
    counts = compare(side([5.0, 4.0, 3.0], "old", better="lower"), far).row("all").counts
    assert (counts.paired, counts.unscored, counts.failed_b) == (2, 1, 1)


def test_other_prompts_answers_and_clusters_for_one_item_are_named():
    a = side([1.0, 0.0, 1.0], "old")
    for change, said in (
        ({"prompt": "other"}, "prompts differ in text"),
        ({"prompt_ids": (1, 1, 2)}, "same text and other token ids"),
        ({"expected": "z"}, "expected answers differ"),
        ({"cluster": "z"}, "clusters differ"),
        ({"slices": {"kind": "z"}}, "slices differ"),
    ):
        b = [dataclasses.replace(one, weights="new", **(change if place == 1 else {})) for place, one in enumerate(a)]
        warnings = compare(a, b).warnings
        assert any(text.startswith("1 of 3 items") and said in text and "item 1" in text for text in warnings), change
    # Ids that are not known are not other ids.
    b = [dataclasses.replace(one, weights="new", prompt_ids=()) for one in a]
    assert not compare(a, b).warnings


def test_the_same_weights_are_an_a_a_comparison():
    found = compare(side([1.0, 0.0], "w"), side([1.0, 0.0], "w"))
    assert found.same_weights
    assert any("A/A" in text for text in found.warnings)
    assert not compare(side([1.0, 0.0], "w"), side([1.0, 0.0], "v")).same_weights


def test_verdicts_by_slice_with_what_could_have_been_seen():
    """easy got better, hard worse, same is equivalent, few cannot tell."""
    kinds = ["easy"] * 300 + ["hard"] * 300 + ["same"] * 600 + ["few"] * 12
    a, b = [0.0] * len(kinds), [0.0] * len(kinds)
    for i, kind in enumerate(kinds):
        a[i] = float(i % 2)
        b[i] = {"easy": float(i % 2 or i % 5 == 0), "hard": float(i % 2 and i % 5 > 0)}.get(kind, a[i])
    b[1201], b[1203] = 0.0, 0.0
    slices = {"slices": lambda i: {"kind": kinds[i]}}
    found = compare(side(a, "old", **slices), side(b, "new", **slices))
    verdicts = {row.key.value: row.verdict for row in found.rows if row.key.kind == "slice"}
    assert verdicts == {"easy": "better", "hard": "worse", "same": "equivalent", "few": "underpowered"}
    few = found.row("kind=few")
    assert few.detectable > abs(few.interval.value)
    assert few.to_decide > 12
    assert items_to_decide(few) == few.to_decide
    assert found.row("kind=easy").to_decide is None
    again = compare(side(a, "old", **slices), side(b, "new", **slices), CompareSettings(slices=("kind",)))
    assert [row.key.label for row in again.rows] == ["all", "kind=easy", "kind=few", "kind=hard", "kind=same"]


def test_items_promised_to_decide_do_decide():
    a, b = right(0.5, 60, 3), right(0.5, 60, 4)
    b = [1.0 if i < 6 else value for i, value in enumerate(b)]
    few = compare(side(a, "old"), side(b, "new")).row("all")
    assert few.verdict == "underpowered"
    times = -(-few.to_decide // 60)
    many = compare(side(a * times, "old"), side(b * times, "new")).row("all")
    assert many.interval.value == pytest.approx(few.interval.value)
    assert many.verdict in ("better", "worse", "equivalent")


@pytest.mark.parametrize(("name", "function"), [("holm", holm), ("bh", benjamini_hochberg)])
def test_p_values_are_corrected_over_all_rows_but_all(name, function):
    slices = {"slices": lambda i: {"kind": "xyz"[i % 3], "size": "sl"[i % 2]}}
    found = compare(
        side(right(0.4, 90, 5), "old", **slices), side(right(0.6, 90, 6), "new", **slices),
        CompareSettings(correction=name),
    )  # fmt: skip
    family = [row for row in found.rows if row.key.kind != "all"]
    assert len(family) == 5
    assert [row.p_adjusted for row in family] == pytest.approx(function([row.p_value for row in family]))
    assert found.rows[0].p_adjusted == found.rows[0].p_value


def test_rows_in_which_nothing_changed_alarm_falsely_5_times_in_100():
    """1,200 rows, 200 values of 6 slices over 32,000 items: templates of 1 to 4 items that partly go together."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 5, size=12_800)
    cluster = np.repeat(np.arange(sizes.size), sizes)
    n = cluster.size
    base = frame_of(side([1.0], "old"))
    named = [pl.lit(base[column][0]).alias(column) for column in base.columns]
    common = pl.select(pl.int_range(n).alias("i")).with_columns(*named).with_columns(
        pl.format("item {}", "i").alias("item"), pl.Series("cluster", cluster.astype(str)),
        pl.Series("slices", slices_of(generator.integers(200, size=(sizes.size, 6)))[cluster].tolist()),
    ).drop("i")  # fmt: skip
    together = generator.random(n) < 0.3
    frames = []
    for _ in range(2):
        drawn = np.where(together, generator.random(sizes.size)[cluster], generator.random(n))
        frames.append(common.with_columns(pl.Series("score", (drawn < 0.5).astype(float))))
    rows = compare_frames(frames[:1], frames[1:]).rows
    p = np.asarray([row.p_value for row in rows if row.key.kind == "slice"])
    assert p.size == 1200
    assert 0.035 <= (p <= 0.05).mean() <= 0.065
    assert sum(row.verdict in ("better", "worse") for row in rows if row.key.kind == "slice") <= 1


def slices_of(values):
    """Slices as they are in a file, a text for each cluster."""
    texts = [json.dumps({f"s{name}": str(value) for name, value in enumerate(row)}) for row in values.tolist()]
    return np.asarray(texts, dtype=object)


def test_tasks_and_metric_groups_are_rows_of_their_own():
    a = side([1.0, 0.0, 1.0, 0.0], "old", task=lambda i: f"t{i % 2}")
    b = side([1.0, 1.0, 1.0, 0.0], "new", task=lambda i: f"t{i % 2}")
    bits = {"metric_group": "perplexity", "better": "lower", "task": "text"}
    a += [outcome(f"text {i}", 2.0 + i, weights="old", **bits) for i in range(3)]
    b += [outcome(f"text {i}", 1.0 + i, weights="new", **bits) for i in range(3)]
    labels = [(row.key.group, row.key.label) for row in compare(a, b).rows]
    assert labels == [
        ("accuracy", "all"), ("accuracy", "task=t0"), ("accuracy", "task=t1"), ("perplexity (lower is better)", "all"),
    ]  # fmt: skip


def test_perturbed_items_are_rows_of_their_own():
    a = side([1.0] * 6, "old") + side([1.0] * 6, "old", perturbation="typos")
    b = side([1.0] * 6, "new") + side([0.0] * 6, "new", perturbation="typos")
    found = compare(a, b)
    assert found.row("all").interval.value == 0.0
    assert found.row("perturbation=typos").interval.value == -1.0


def test_a_slice_that_is_an_id_is_not_compared_and_said():
    slices = {"slices": lambda i: {"id": str(i)}}
    found = compare(side([1.0, 0.0] * 150, "old", **slices), side([1.0] * 300, "new", **slices))
    assert len(found.rows) == 1
    assert any("id has 300 values" in text for text in found.warnings)


def test_few_or_unequal_clusters_are_noted():
    few = compare(
        side([1.0, 0.0] * 10, "old", cluster=lambda i: f"c{i // 10}"),
        side([1.0] * 20, "new", cluster=lambda i: f"c{i // 10}"),
    ).row("all")
    assert "only 2 clusters" in few.notes[0]
    unequal = compare(
        side([1.0, 0.0] * 50, "old", cluster=lambda i: f"c{max(0, i - 89)}"),
        side([1.0] * 100, "new", cluster=lambda i: f"c{max(0, i - 89)}"),
    ).row("all")
    assert "sizes are unequal" in unequal.notes[0]
    one = compare(side([1.0, 0.0], "old", cluster="c"), side([1.0, 1.0], "new", cluster="c")).row("all")
    assert one.verdict == "underpowered"
    assert "one cluster" in one.notes[0]


def test_training_seeds_paired_and_not():
    a = [side(right(0.5, 80, seed), f"old {seed}") for seed in range(3)]
    b = [side(right(0.7, 80, seed + 10), f"new {seed}") for seed in range(3)]
    paired, welch, single = compare(a, b), compare(a, b[:2]), compare(a[0], b)
    assert "paired" in paired.seeds
    assert "Welch" in welch.seeds
    assert "one seed is taken to spread" in single.seeds
    assert paired.row("all").mean_a == pytest.approx(np.mean([[one.score for one in file] for file in a]))
    assert "nothing here says what another seed" in compare(a[0], b[0]).seeds
    assert any("two training seeds" in text for text in compare(a[:2], b[:2]).warnings)
    copies = compare([a[0], a[0]], b[:2])
    assert any("not two training seeds" in text for text in copies.warnings)
    missing = compare([a[0], a[1][:70]], b[:2]).row("all").counts
    assert (missing.paired, missing.seeds) == (70, 10)


def test_the_noise_floor_of_a_twin():
    scores = right(0.5, 100, 7)
    moved = [1 - value if i < 4 else value for i, value in enumerate(scores)]
    b = [1 - value if i == 50 else value for i, value in enumerate(scores)]
    found = compare(side(scores, "old"), side(b, "new"), twin=side(moved, "old")).row("all")
    assert found.floor.changed.value == 0.04
    assert found.floor.floor > 0.01
    assert any("noise floor" in note for note in found.notes)
    with pytest.raises(UsageError, match="weights are not those"):
        compare(side(scores, "old"), side(b, "new"), twin=side(b, "new"))


def test_looks_ask_for_more_at_first():
    a, b = side(right(0.5, 200, 8), "old"), side(right(0.6, 200, 9), "new")
    once = compare(a, b)
    early = compare(a, b, CompareSettings(looks=5, look=1))
    assert early.settings.alpha < 1e-5
    assert early.row("all").interval.low < once.row("all").interval.low
    with pytest.raises(UsageError, match="look 3 of 2"):
        compare(a, b, CompareSettings(looks=2, look=3))


def test_variance_is_split_where_there_is_something_to_split():
    several = [outcome(i, float((i + s) % 3 > 0), sample=s) for i in range(20) for s in range(3)]
    found = compare(several, [dataclasses.replace(one, weights="v") for one in several]).variances
    assert [(one.side, [part.name for part in one.components]) for one in found] == [
        ("A", ["item", "residual"]), ("B", ["item", "residual"]),
    ]  # fmt: skip
    assert compare(side([1.0, 0.0], "old"), side([1.0, 1.0], "new")).variances == ()


def test_length_and_calibration_are_beside_the_scores():
    a = side(right(0.5, 400, 1), "old", tokens=10, confidence=0.5)
    b = side(right(0.5, 400, 2), "new", tokens=15, confidence=0.9)
    (drift,) = compare(a, b).drifts
    assert drift.length_ratio.value == 1.5
    assert drift.calibration.low > 0.25
    (nothing,) = compare(side([1.0, 0.0], "old"), side([1.0, 0.0], "new")).drifts
    assert (nothing.length_ratio, nothing.calibration) == (None, None)


def test_files_and_lists_give_the_same(tmp_path):
    slices = {"slices": lambda i: {"kind": "xy"[i % 2]}, "prompt_ids": lambda i: (i, i + 1)}
    a, b = side(right(0.5, 50, 1), "old", **slices), side(right(0.6, 50, 2), "new", **slices)
    frames = []
    for name, outcomes in (("a", a), ("b", b)):
        write_outcomes(tmp_path / f"{name}.parquet", outcomes)
        frames.append(read_frame(tmp_path / f"{name}.parquet"))
        assert frames[-1].equals(frame_of(outcomes))
    assert compare_frames(frames[:1], frames[1:]).as_dict() == compare(a, b).as_dict()


def test_refusals_are_one_line():
    a, b = side([1.0, 0.0], "old"), side([1.0, 1.0], "new")
    with pytest.raises(UsageError, match="A: there are no outcomes"):
        compare([], b)
    with pytest.raises(UsageError, match="no item in common"):
        compare(a, [dataclasses.replace(one, task="u") for one in b])
    with pytest.raises(UsageError, match="task t: better is"):
        compare(a, [dataclasses.replace(one, better="lower") for one in b])
    with pytest.raises(UsageError, match="task t: metric_group is"):
        compare(a, [dataclasses.replace(one, metric_group="bias") for one in b])
    with pytest.raises(UsageError, match=r"slice tsk: no outcome has it. Did you mean 'task'"):
        compare(a, b, CompareSettings(slices=("tsk",)))
    with pytest.raises(UsageError, match="margin"):
        compare(a, b, CompareSettings(margin=-1.0))
    with pytest.raises(UsageError, match="pass@4"):
        compare(a, b, CompareSettings(score="best"))


def test_a_hundred_thousand_outcomes_and_fifty_slices_take_seconds():
    n = 100_000
    frames = []
    for name in ("old", "new"):
        draws = np.random.default_rng(len(frames)).random(n)
        base = frame_of(side([1.0], name))
        frames.append(
            pl.select(pl.int_range(n).alias("i"))
            .with_columns(*(pl.lit(base[column][0]).alias(column) for column in base.columns))
            .with_columns(
                pl.format("item {}", "i").alias("item"), pl.format("c{}", pl.col("i") // 3).alias("cluster"),
                pl.concat_str(pl.lit('{"kind": "'), pl.col("i") % 50, pl.lit('"}')).alias("slices"),
                pl.Series("score", (draws < 0.5).astype(float)), pl.Series("confidence", draws),
            )
        )  # fmt: skip
    began = time.process_time()
    found = compare_frames(frames[:1], frames[1:])
    assert time.process_time() - began < 15
    assert len(found.rows) == 51


def test_slices_of_the_same_items_are_one_hypothesis():
    kinds = {"slices": lambda i: {"kind": "ab"[i % 2], "sort": "xy"[i % 2], "other": "pq"[i // 20]}}
    found = compare(side([0.0] * 40, "old", **kinds), side([1.0, 0.0] * 20, "new", **kinds))
    assert [row.key.label for row in found.rows] == ["all", "kind=a", "kind=b", "other=p", "other=q"]


def test_slices_that_could_show_nothing_are_counted_and_do_not_weigh_on_the_others():
    kinds = {"slices": lambda i: {"kind": "large" if i < 36 else "small"}}
    a, b = side([0.0] * 40, "old", **kinds), side([1.0, 0.0] * 20, "new", **kinds)
    found = compare(a, b)
    assert [row.key.label for row in found.rows] == ["all", "kind=large"]
    assert "slices of fewer than 5 items or clusters are not compared: kind (1)" in " ".join(found.warnings)
    asked = compare(a, b, CompareSettings(slices=("kind",)))
    assert [row.key.label for row in asked.rows] == ["all", "kind=large", "kind=small"]


def test_a_group_without_scores_has_no_slices():
    kinds = {"slices": lambda i: {"kind": "ab"[i % 2]}, "status": lambda i: "unscored"}
    unscored = [side([None] * 12, name, **kinds) for name in ("old", "new")]
    scored = [[outcome(100 + i, 1.0, task="u", metric_group="other") for i in range(8)] for _ in range(2)]
    found = compare(unscored[0] + scored[0], unscored[1] + scored[1])
    assert [row.key.label for row in found.rows if row.key.group == "accuracy"] == ["all"]
