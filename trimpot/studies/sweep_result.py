"""What came out of a sweep: its prediction's outcome, every arm beside the first, and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt

from trimpot.core.stats import Estimate
from trimpot.knobs.evidence import Evidence
from trimpot.statistics.intervals import mean_interval
from trimpot.statistics.multiple import holm
from trimpot.studies.decide import p_value, smallest_effect
from trimpot.studies.sweep_measures import ArmDifference
from trimpot.studies.sweep_prediction import Outcome, outcome_of

WIDTH, HEIGHT = 460, 300
BLUE, GREY = "#3f80cc", "#888888"


@dataclass(frozen=True)
class ArmResult:
    """An arm's mean over seeds with its 95% t interval, and its difference to the first arm, paired by seed and item.

    ``p_value`` is two-sided for no difference, adjusted by Holm over the arms; ``smallest_effect`` is the difference
    found with probability 0.8. The first arm has neither, and no difference.
    """

    arm: str
    mean: Estimate
    difference: Estimate | None
    p_value: float | None
    smallest_effect: float | None


def outcome(evidence: Evidence) -> Outcome:
    """Whether the prediction was right, wrong, or cannot be told."""
    return outcome_of(tested.verdict for tested in evidence.tested.values())


def arm_results(evidence: Evidence, metric: str) -> list[ArmResult]:
    """Every arm, in the order of the sweep. These comparisons were not predicted: they are for looking."""
    first, *others = evidence.arms
    values = {arm: _differences(evidence, arm, first, metric) for arm in others}
    tested = {arm: p for arm in others if (p := p_value(values[arm])) is not None}
    adjusted = dict(zip(tested, holm(tested.values()), strict=True))
    results = [ArmResult(first, _mean(evidence, first, metric), None, None, None)]
    return results + [
        ArmResult(
            arm,
            _mean(evidence, arm, metric),
            mean_interval(values[arm]),
            adjusted.get(arm),
            smallest_effect(values[arm]),
        )
        for arm in others
    ]


def is_flat(evidence: Evidence, metric: str) -> bool:
    """True when every run has the same value of the metric, so that the sweep can tell nothing."""
    values = {by[metric] for runs in evidence.results.values() for by in runs.values()}
    return len(values) == 1


def detectors_fired(evidence: Evidence) -> dict[str, int]:
    """Detector -> in how many runs it fired."""
    fired: dict[str, int] = {}
    for runs in evidence.results.values():
        for metrics in runs.values():
            for name in metrics:
                if name.startswith("alarms/"):
                    fired[name.removeprefix("alarms/")] = fired.get(name.removeprefix("alarms/"), 0) + 1
    return dict(sorted(fired.items()))


def draw_sweep(evidence: Evidence, metric: str, path: Path) -> Path:
    """Writes the picture as SVG or PNG, by the ending of ``path``: each seed a dot on a line, each arm's mean with its
    95% t interval."""
    lines: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for arm, by_seed in evidence.results.items():
        lines += [{"arm": arm, "seed": seed, "y": found[metric]} for seed, found in by_seed.items() if metric in found]
        one = _mean(evidence, arm, metric)
        if one.value is not None:
            means.append({"arm": arm, "y": one.value, "low": one.low, "high": one.high})
    x = alt.X("arm:N", sort=list(evidence.arms), title=None).axis(labelAngle=-20, labelLimit=260)
    y = alt.Y("y:Q", title=metric, scale=alt.Scale(zero=False, nice=True, padding=10)).axis(grid=False)
    seeds = alt.Chart(alt.Data(values=lines)).encode(x=x, y=y, detail="seed:N")
    drawn = alt.Chart(alt.Data(values=means)).encode(x=x, y=y)
    interval = drawn.mark_rule(strokeWidth=2, color=BLUE).encode(y=alt.Y("low:Q", title=metric), y2="high:Q")
    subtitle = f"{len(evidence.seeds)} seeds, mean with 95% t interval; prediction: {outcome(evidence)}"
    title = alt.TitleParams(evidence.question, subtitle=subtitle, anchor="start", fontSize=13, limit=WIDTH + 120)
    layers = alt.layer(
        seeds.mark_line(strokeWidth=1, opacity=0.25, color=GREY),
        seeds.mark_circle(size=22, opacity=0.45, color=GREY),
        interval,
        drawn.mark_point(filled=True, size=70, opacity=1, color=BLUE),
    )
    chart = layers.properties(width=WIDTH, height=HEIGHT, title=title).configure_view(stroke=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.save(str(path), **({"scale_factor": 2} if path.suffix == ".png" else {}))
    return path


def _mean(evidence: Evidence, arm: str, metric: str) -> Estimate:
    return mean_interval([found[metric] for found in evidence.results[arm].values() if metric in found])


def _differences(evidence: Evidence, arm: str, first: str, metric: str) -> list[float]:
    """One number per seed that both arms have."""
    measure = ArmDifference(metric, arm, first, "")
    found = []
    for seed in evidence.seeds:
        pair = {one: evidence.results[one].get(str(seed), {}) for one in (arm, first)}
        value = measure.value(evidence.arms, pair)
        if value is not None:
            found.append(value)
    return found
