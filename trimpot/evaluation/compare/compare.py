"""The comparison of two models on the same items: by slice, clustered, corrected, with what it could have seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from trimpot.core.errors import UsageError, nearest
from trimpot.core.seeds import seed_for
from trimpot.core.stats import Estimate
from trimpot.evaluation.compare.frames import frame_of
from trimpot.evaluation.compare.paradox import paradoxes
from trimpot.evaluation.compare.result import Comparison, Drift, Row, RowKey, SideVariance
from trimpot.evaluation.compare.rows import counts, flips_of, floors, parse_failures, row_keys, select
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.evaluation.compare.table import Flags, PairTable, Side, pair
from trimpot.evaluation.compare.variance import variances
from trimpot.statistics.clustered import FEW_CLUSTERS, MeanDifference
from trimpot.statistics.drift import NoiseFloor, calibration_drift, equal_mass_error, ratio_of_means
from trimpot.statistics.equivalence import equivalence
from trimpot.statistics.multiple import benjamini_hochberg, holm
from trimpot.statistics.paired import Verdict
from trimpot.statistics.planning import clusters_to_decide, detectable_effect
from trimpot.statistics.seeds import FEW_SEEDS
from trimpot.store.outcomes import Outcome

CALIBRATION_ITEMS = 300
"""Below so many items a calibration error is mostly noise (HELM's bins of ten hold 30 each)."""
CORRECTIONS: dict[str, Callable[[list[float]], list[float]]] = {"holm": holm, "bh": benjamini_hochberg}


def compare(
    a: Sequence[Outcome] | Sequence[Sequence[Outcome]],
    b: Sequence[Outcome] | Sequence[Sequence[Outcome]],
    settings: CompareSettings | None = None,
    twin: Sequence[Outcome] = (),
) -> Comparison:
    """Is B better than A: over all items, by task and by slice, and what could these items have shown?

    ``a`` is the baseline. Either is a list of outcomes, or a list of such lists, one for each training seed. ``twin``:
    the baseline evaluated again, for the noise floor.

    Outcomes meet by task, item and perturbation; samples of one are averaged first. A sample without a score (error,
    unscored) is left out and counted, one that could not be read scores the task's worst. An item that is not scored by
    every file is counted, never compared. Differences are improvements: positive is B better, whichever way a score
    runs. Verdicts of all rows but "all" share one family and are corrected over it.
    Example: A right on items 1 and 2 of 100, B on 2 and 3: difference 0.00, gained 1, lost 1.

    Raises:
        UsageError: a side without outcomes, no item in common, settings out of range, or an unknown slice.
    Edge cases: a row with fewer than two clusters has no interval and is "underpowered".
    """
    sides = [[frame_of(one) for one in _lists(given)] for given in (a, b)]
    return compare_frames(sides[0], sides[1], settings, twin=[frame_of(twin)] if twin else [])


def _lists(given: Sequence[Outcome] | Sequence[Sequence[Outcome]]) -> list[Sequence[Outcome]]:
    if not given or isinstance(given[0], Outcome):
        return [given]  # type: ignore[list-item]
    return list(given)  # type: ignore[arg-type]


def compare_frames(
    a: Sequence[pl.DataFrame],
    b: Sequence[pl.DataFrame],
    settings: CompareSettings | None = None,
    names: tuple[str, str] = ("A", "B"),
    twin: Sequence[pl.DataFrame] = (),
) -> Comparison:
    """``compare`` on frames (``trimpot.evaluation.compare.frames``), a frame per training seed."""
    chosen = settings or CompareSettings()
    chosen.check()
    table = pair(a, b, chosen, names)
    same = twin_of(a, twin, chosen, names) if twin else None
    return compare_table(table, chosen, same, (*variances(a, "A"), *variances(b, "B")))


def twin_of(
    a: Sequence[pl.DataFrame], twin: Sequence[pl.DataFrame], settings: CompareSettings, names: tuple[str, str]
) -> PairTable:
    """A's first file beside a second evaluation of the same weights, for the noise floor.

    Raises:
        UsageError: as ``pair``, or the twin's weights are not those of A's first file.
    """
    same = pair(a[:1], twin[:1], settings, (names[0], "its twin"))
    if set(same.a.weights[0]) != set(same.b.weights[0]):
        raise UsageError("the twin", f"its weights are not those of {names[0]}", "Evaluate the very same model again.")
    return same


def compare_table(
    table: PairTable,
    settings: CompareSettings,
    twin: PairTable | None = None,
    split: tuple[SideVariance, ...] = (),
) -> Comparison:
    """``compare`` on items that are paired already; ``split`` is kept beside."""
    warnings = list(table.warnings)
    _known_slices(table, settings.slices)
    keyed = row_keys(table, settings.slices, warnings)
    measured = floors(twin, settings.slices, settings.level)
    drafts = [_draft(table, key, inside, settings, measured.get(key)) for key, inside in keyed]
    rows = _decided(drafts, settings)
    groups = [key.group for key, _ in keyed if key.kind == "all"]
    drifts = tuple(_drift(table, group, settings.level) for group in groups)
    seeds, about_seeds = _seeds(table.a, table.b)
    same = {one for file in table.a.weights for one in file} == {one for file in table.b.weights for one in file}
    return Comparison(
        a=table.a.name,
        b=table.b.name,
        settings=settings,
        rows=rows,
        drifts=drifts,
        paradoxes=paradoxes(table),
        variances=split,
        seeds=seeds,
        same_weights=same,
        warnings=(*warnings, *about_seeds, *_left_out(rows), *(_AA if same else ())),
    )


_AA = ("both sides have the same weights: this is an A/A comparison, and every difference is noise",)


def _known_slices(table: PairTable, wanted: Sequence[str]) -> None:
    known = ("task", "perturbation", *table.slices)
    for name in wanted:
        if name not in known:
            raise UsageError(f"slice {name}", "no outcome has it", nearest(name, known))


@dataclasses.dataclass(frozen=True)
class _Draft:
    """A row before correction: the row, and both p-values as they are."""

    row: Row
    p_value: float | None
    p_equivalent: float | None


def _draft(table: PairTable, key: RowKey, inside: Flags, settings: CompareSettings, floor: NoiseFloor | None) -> _Draft:
    chosen = select(table, inside)
    difference = chosen.difference
    level = 1 - settings.alpha
    p, same = difference.p_value(), equivalence(difference, settings.margin, settings.level).p_value
    row = Row(
        key=key,
        counts=counts(table, inside),
        mean_a=float(chosen.a.mean()) if chosen.places.size else None,
        mean_b=float(chosen.b.mean()) if chosen.places.size else None,
        difference=difference,
        interval=difference.interval(level),
        p_value=p,
        p_adjusted=p,
        p_equivalent=same,
        verdict="underpowered",
        detectable=detectable_effect(difference, level, settings.power),
        to_decide=None,
        flips=flips_of(chosen),
        parse_failed=parse_failures(table, chosen, settings.level),
        floor=floor,
        notes=_notes(difference, floor),
    )
    return _Draft(row, p, same)


def _notes(difference: MeanDifference, floor: NoiseFloor | None) -> tuple[str, ...]:
    found = []
    degrees = difference.degrees
    if difference.items and not difference.components:
        found.append("one cluster: nothing can be said of its error")
    elif difference.clusters and difference.clusters < FEW_CLUSTERS:
        found.append(f"only {difference.clusters} clusters: the interval rests on the normality of their sums")
    elif degrees is not None and round(degrees + 1, 1) < FEW_CLUSTERS:
        found.append(f"clusters or seeds worth only {degrees + 1:.1f} equal ones: sizes are unequal or seeds few")
    if floor is not None and floor.floor is not None and difference.value is not None:
        within = abs(difference.value) <= floor.floor
        found += [f"within the A/A noise floor of {floor.floor:.4f}"] if within and floor.floor > 0 else []
    return tuple(found)


def _decided(drafts: Sequence[_Draft], settings: CompareSettings) -> tuple[Row, ...]:
    """Corrects over all rows but "all" (each its group's one main question), and says the verdicts."""
    family = [number for number, draft in enumerate(drafts) if draft.row.key.kind != "all"]
    p = _adjusted([draft.p_value for draft in drafts], family, settings.correction)
    same = _adjusted([draft.p_equivalent for draft in drafts], family, settings.correction)
    rows = []
    for draft, adjusted, equivalent in zip(drafts, p, same, strict=True):
        said = _verdict(draft.row.difference, adjusted, equivalent, settings)
        needed = None
        if said == "underpowered":
            # The level that correction left this row, so that the items promised suffice for its verdict.
            share = 1.0 if not draft.p_value or not adjusted else draft.p_value / adjusted
            level = 1 - settings.alpha * min(1.0, share)
            needed = clusters_to_decide(draft.row.difference, settings.margin, level, settings.power)
        rows.append(
            dataclasses.replace(draft.row, p_adjusted=adjusted, p_equivalent=equivalent, verdict=said, to_decide=needed)
        )
    return tuple(rows)


def _adjusted(values: Sequence[float | None], family: Sequence[int], correction: str) -> list[float | None]:
    """p-values of the family corrected; the others, and what has none, as they are."""
    tested = [(number, value) for number in family if (value := values[number]) is not None]
    found = list(values)
    for (number, _), adjusted in zip(tested, CORRECTIONS[correction]([value for _, value in tested]), strict=True):
        found[number] = adjusted
    return found


def _verdict(
    difference: MeanDifference, p: float | None, equivalent: float | None, settings: CompareSettings
) -> Verdict:
    """Equivalent first: a difference surely smaller than the margin does not matter, even if it is surely not 0."""
    if equivalent is not None and equivalent <= 1 - settings.level:
        return "equivalent"
    if p is not None and p <= settings.alpha and difference.centre:
        return "better" if difference.centre > 0 else "worse"
    return "underpowered"


def _drift(table: PairTable, group: str, level: float) -> Drift:
    """Length and calibration over the paired items of a group as they stand."""
    inside = (table.groups == group) & table.unperturbed & table.paired
    return drift(table, inside, group, level)


def drift(table: PairTable, inside: Flags, label: str, level: float) -> Drift:
    """Length and calibration over some paired items; each where both sides tell it of at least two."""
    notes: list[str] = []
    long = inside & np.isfinite(table.a.tokens) & np.isfinite(table.b.tokens)
    ratio = None
    if long.sum() > 1:
        ratio = ratio_of_means(table.a.tokens[long].tolist(), table.b.tokens[long].tolist(), _of(table, long), level)
    sure = inside & np.isfinite(table.a.confidence) & np.isfinite(table.b.confidence) & (table.sign > 0)
    values = [(side.confidence[sure], side.mean[sure]) for side in (table.a, table.b)]
    bounded = all(part.size > 1 and part.min() >= 0 and part.max() <= 1 for one in values for part in one)
    if not bounded:
        return Drift(label, ratio, None, None, None)
    if sure.sum() < CALIBRATION_ITEMS:
        notes.append(f"{int(sure.sum())} items have a confidence: fewer than {CALIBRATION_ITEMS} say little")
    lists = [(one.tolist(), other.tolist()) for one, other in values]
    draws = 500 if sure.sum() <= 20_000 else 100
    change: Estimate = calibration_drift(
        lists[0], lists[1], seed_for(0, "calibration", label), _of(table, sure), draws, level
    )
    errors = [equal_mass_error(*one) for one in lists]
    return Drift(label, ratio, change, errors[0], errors[1], tuple(notes))


def _of(table: PairTable, inside: Flags) -> list[int]:
    return table.clusters[inside].tolist()


def _seeds(a: Side, b: Side) -> tuple[str, list[str]]:
    """How training seeds entered, and what to be wary of."""
    warnings = []
    for side in (a, b):
        if side.seeds > 1 and len({frozenset(file) for file in side.weights}) < side.seeds:
            warnings.append(f"{side.name}: two files have the same weights, so they are not two training seeds")
    if a.seeds == b.seeds == 1:
        return "one training seed on each side: nothing here says what another seed would give", warnings
    if min(side.seeds for side in (a, b) if side.seeds > 1) < FEW_SEEDS:
        warnings.append("two training seeds say little of their spread: intervals are wide; three or more help much")
    if a.seeds == b.seeds:
        return f"{a.seeds} training seeds on each side, paired in the order given; items and seeds both count", warnings
    text = f"{a.seeds} and {b.seeds} training seeds, not paired (Welch); items and seeds both count"
    if min(a.seeds, b.seeds) == 1:
        text += "; the side with one seed is taken to spread as the other does"
    return text, warnings


def _left_out(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in rows:
        if row.key.kind != "all":
            continue
        one = row.counts
        parts = [
            (one.only_a, "only on A's side"), (one.only_b, "only on B's side"),
            (one.seeds, "not under every seed"), (one.unscored, "without a score on a side (error or unscored)"),
        ]  # fmt: skip
        said = ", ".join(f"{number} {text}" for number, text in parts if number)
        if said:
            found.append(f"{row.key.group}: {one.paired} items are compared; left out: {said}")
    return found
