"""Chinchilla's third approach, fitted again to the points of its figure 4: which published constants do they bear?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from trimpot.core.errors import UsageError
from trimpot.core.hashing import file_sha256
from trimpot.core.seeds import seed_for, stream
from trimpot.core.stats import Estimate
from trimpot.data.scaling_runs import read_runs
from trimpot.models.embedded import cache_folder
from trimpot.statistics.scaling_constants import Published
from trimpot.statistics.scaling_forms import FORMS, stacked
from trimpot.statistics.scaling_laws import DELTA, HuberProblem, fit
from trimpot.statistics.scaling_points import Runs
from trimpot.studies.measures import Difference, Growth, Level
from trimpot.studies.study import Budget, Chart, Settings, Study, Values

POINTS = "chinchilla_points.csv"
COMMIT = "92258837425e1b5f2851d624287f0120583a3d0e"
ADDRESS = f"https://raw.githubusercontent.com/epoch-research/analyzing-chinchilla/{COMMIT}/data/svg_extracted_data.csv"
SHA256 = "193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30"
BUDGET = 5.76e23
"""Operations of Gopher's training, for which Hoffmann et al. asked after the best split."""
RULE = 20.0
"""Tokens per parameter of the model Chinchilla, 1.4e12 to 70e9."""
PREFIX = {"refit": "chinchilla-refit", "printed": "chinchilla", "unrounded": "chinchilla-unrounded"}
SUM, MEAN = "sum", "mean"
GRID: tuple[tuple[float, ...], ...] = (
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0), (0.0, 5.0, 10.0, 15.0, 20.0, 25.0), (0.0, 0.5, 1.0, 1.5, 2.0),
    (0.0, 0.5, 1.0, 1.5, 2.0), (-1.0, -0.5, 0.0, 0.5, 1.0),
)  # fmt: skip
"""Starts of Hoffmann et al. (D.2) for ln A, ln B, α, β and ln E."""


def points_file() -> Path:
    """Where the points are looked for, in trimpot's cache."""
    return cache_folder() / POINTS


def prepare(settings: Settings, seed: int, folder: Path) -> None:
    """Copies the points, which are Epoch AI's and not part of trimpot.

    Raises:
        UsageError: they are not in the cache, or are not the ones the study was written for.
    """
    file = points_file()
    if not file.is_file():
        problem = "is not there: the 245 points of figure 4 are Epoch AI's, without a licence, so trimpot has no copy"
        raise UsageError(str(file), problem, f"Fetch it once: curl --create-dirs -o {file} {ADDRESS}")
    if file_sha256(file) != SHA256:
        raise UsageError(str(file), "is not the file of 245 points that this study is about", f"Fetch {ADDRESS} anew.")
    shutil.copyfile(file, folder / POINTS)


def run(values: Values, settings: Settings, seed: int, folder: Path) -> dict[str, float]:
    """Fits the law without the ``dropped`` points of highest loss, with the seed's own resamples.

    ``refit``, ``printed``, ``unrounded``: how deep the published constant that lies worst is in its 95% interval, in
    half-widths: 1 in the middle, 0 at an end, below 0 outside; ``refit_alpha`` and so on of each constant. ``rule``:
    the same of 20 tokens per parameter at 5.76e23 operations, of which ``tokens_per_parameter`` is the value.
    ``sum`` and ``mean``: see ``left_over``.
    """
    runs = without_highest(read_runs(str(folder / POINTS)).runs, int(values["dropped"]))
    drawn = seed_for(seed, "draw", int(values["draw"]))
    fitted = fit(runs, draws=settings["resamples"], seed=drawn)
    metrics = {name: float(one.value or 0.0) for name, one in fitted.constants.items()}
    for prefix, name in PREFIX.items():
        depths = {key: depth(fitted.constants[key], value) for key, value in Published(name).constants.items()}
        metrics |= {f"{prefix}_{key}": value for key, value in depths.items()} | {prefix: min(depths.values())}
    ratio = fitted.split(BUDGET, beyond=True)["tokens_per_parameter"]
    metrics |= {"tokens_per_parameter": float(ratio.value or 0.0), "rule": depth(ratio, RULE)}
    for way in (SUM, MEAN):
        metrics[way] = left_over(runs, way, settings["starts"], drawn, fitted.objective)
    return metrics


def without_highest(runs: Runs, count: int) -> Runs:
    """All runs but the ``count`` of highest loss: Epoch AI leaves five out as outliers."""
    rank = np.empty(len(runs), dtype=np.int64)
    rank[np.argsort(-runs.loss, kind="stable")] = np.arange(len(runs))
    return runs.take(rank >= count)


def depth(estimate: Estimate, value: float) -> float:
    """How deep a value lies in an interval, in half-widths.

    Example: 3 in [2, 6]: 1 from the nearer end, half the width is 2: ½. 8 there: −2/2 = −1.

    Raises:
        ValueError: there is no interval.
    """
    if estimate.low is None or estimate.high is None:
        raise ValueError("no interval to lie in")
    return 2 * min(value - estimate.low, estimate.high - value) / (estimate.high - estimate.low)


def left_over(runs: Runs, way: str, starts: int, seed: int, least: float) -> float:
    """ln of the sum of Huber losses at which scipy's L-BFGS-B stops, over the least sum there is.

    In Hoffmann's coordinates, not centred, with scipy's own tolerances, from ``starts`` of his grid, the best of which
    counts. ``way``: whether Huber losses are summed over the runs or averaged, which moves no minimum and changes only
    when the optimiser stops.
    """
    form, draw = FORMS["chinchilla"], stream(seed, "starts")
    problem = HuberProblem(form, stacked(runs.known(), form.variables), np.log(runs.loss), DELTA)
    ones, scale = np.ones(len(runs)), DELTA**2 / (len(runs) if way == MEAN else 1)

    def objective(theta: Any) -> tuple[float, Any]:
        value, gradient = problem.objective(theta, ones)
        return scale * value, scale * gradient

    ends = []
    for _ in range(starts):
        end = minimize(objective, [draw.choice(axis) for axis in GRID], jac=True, method="L-BFGS-B")
        ends.append(DELTA**2 * problem.objective(end.x, ones)[0])
    return float(np.log(min(value for value in ends if np.isfinite(value)) / least))


def _arms(*dropped: int) -> Mapping[str, Values]:
    arms: dict[str, Values] = {_name(count): {"dropped": count, "draw": 0} for count in dropped}
    return {**arms, _name(EPOCH, 1): {"dropped": EPOCH, "draw": 1}}


def _name(dropped: int, draw: int = 0) -> str:
    left_out = f"without the {dropped} highest" if dropped else "all points"
    return f"{left_out}, other draws" if draw else left_out


EPOCH = 5
AS_EPOCH: Values = {"dropped": EPOCH, "draw": 0}
SETTINGS = {"resamples": 1000, "starts": 30}

STUDY = Study(
    id="chinchilla-refit",
    question="Which published constants of Chinchilla's law do the points of its own figure bear?",
    model="none: 245 published runs",
    scale=(
        "240 of the 245 points that Epoch AI read off figure 4 of Hoffmann et al. 2022, 57 million to 16 billion"
        " parameters; Huber's loss of log-losses; a seed draws resamples and starts, the points are one set: spread"
        " over seeds is that of the drawing alone"
    ),
    tests={
        "refit": Level("refit", "depth of Epoch's worst constant in its bootstrap interval, in half-widths", AS_EPOCH),
        "printed": Level("printed", "depth of the worst printed constant in its bootstrap interval", AS_EPOCH),
        "rule": Level("rule", "depth of 20 tokens per parameter in its interval at 5.76e23 operations", AS_EPOCH),
        "stops": Growth("mean", "sum", "ln of the objective where L-BFGS stops, averaged less summed", AS_EPOCH),
    },
    claims={
        "chinchilla-refit-fits-points": "refit",
        "chinchilla-printed-miss-points": "printed",
        "chinchilla-refit-bears-twenty": "rule",
        "chinchilla-mean-stops-early": "stops",
    },
    budgets={
        "quick": Budget(_arms(0, EPOCH), 5, {**SETTINGS, "resamples": 200}, minutes=2.0),
        "full": Budget(_arms(0, 2, EPOCH, 10), 8, SETTINGS, minutes=12.0),
    },
    prepare=prepare,
    run=run,
    control=Difference("refit", _name(EPOCH), _name(EPOCH, 1), "depth of Epoch's worst constant, two sets of draws"),
    chart=Chart(
        "tokens_per_parameter", "dropped", None, {"draw": 0}, "best tokens per parameter at 5.76e23 operations",
        "points of highest loss left out", log=False,
    ),
    first_seed=10,
)  # fmt: skip
