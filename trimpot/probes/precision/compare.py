"""Precision modes side by side: the same weights, rows and order, against the band of fp32 runs in other orders."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.core.samples import Sample
from trimpot.core.seeds import seed_for, stream
from trimpot.core.tensors import Objective
from trimpot.data.order import RowSource
from trimpot.models.policy import Policy
from trimpot.objectives.supervised.sft import SupervisedFineTuning
from trimpot.probes.precision.departure import STAY, Departure, departure, seed_band
from trimpot.probes.precision.loss_scale import INITIAL, INTERVAL, LossScale
from trimpot.probes.precision.magnitudes import (
    LostUpdates,
    Magnitudes,
    ScaleWindow,
    add_magnitudes,
    scale_window,
)
from trimpot.probes.precision.modes import BASE, MODES, PrecisionMode, modes_of
from trimpot.probes.precision.steps import Look, Recipe, StepRecord, Trainer


@dataclass(frozen=True)
class PrecisionSettings:
    """What every mode does. ``orders``: fp32 runs in other orders of the rows, which span the band; ``measured``: rows
    that no run trains on, on which every run is measured after each step; ``static_scale``, ``initial_scale`` and
    ``growth_interval``: of the loss.
    """

    steps: int = 20
    batch: int = 8
    learning_rate: float = 2e-5
    max_grad_norm: float = 1.0
    orders: int = 4
    measured: int = 16
    static_scale: float = 1024.0
    initial_scale: float = INITIAL
    growth_interval: int = INTERVAL
    seed: int = 0
    token_budget: int = 640

    def check(self, samples: int) -> None:
        """Refuses settings that no comparison follows from.

        Raises:
            UsageError: fewer than STAY steps or two orders, or too few rows for orders to differ.
        """
        if self.steps < STAY:
            raise UsageError("steps", f"{self.steps} show no departure", f"Give {STAY} at least; 20 are a start.")
        if self.orders < 2:
            raise UsageError("orders", f"{self.orders} span no band", "Give 2 at least; 4 are a fair band.")
        needed = self.measured + 2 * self.batch
        if samples < needed:
            problem = f"holds {samples} rows; {self.measured} are measured on, and two batches of {self.batch} differ"
            raise UsageError("data", problem, f"Give {needed} rows at least, or lower batch and measured.")


@dataclass(frozen=True)
class ModeReport:
    """One mode's run.

    ``measured``: after each step, the loss on the measured rows of the optimiser's weights, computed in float32 in
    every mode. ``departure``: where it leaves the band; None: it stays. ``gap``: what it is at the end less fp32's.
    ``vanished``: share of the first step's gradient entries that are 0 here and not in fp32;
    ``cosine``: of the two gradients; both None where the first step overflowed. ``lost``: updates that the weights did
    not take, by group, at the steps looked at (modes without master weights). ``seconds``: of one step, measuring
    included.
    """

    mode: PrecisionMode
    records: tuple[StepRecord, ...]
    measured: tuple[float, ...]
    departure: Departure | None
    gap: float | None
    vanished: float | None
    cosine: float | None
    lost: Mapping[str, LostUpdates]
    seconds: float

    @property
    def overflows(self) -> tuple[int, ...]:
        """The steps (1-based) that overflowed and were not taken."""
        return tuple(step for step, one in enumerate(self.records, start=1) if one.overflow)

    def as_dict(self) -> dict[str, Any]:
        columns = {name: [_number(getattr(one, name)) for one in self.records] for name in ("loss", "scale", "norm")}
        return {
            **asdict(self.mode),
            "departure": None if self.departure is None else asdict(self.departure),
            "gap": _number(self.gap),
            "vanished_share": self.vanished,
            "cosine": self.cosine,
            "lost_updates": {group: one.as_dict() for group, one in self.lost.items()},
            "lost_share": _all(self.lost).lost_share,
            "overflow_steps": list(self.overflows),
            "seconds_per_step": self.seconds,
            "measured": [_number(value) for value in self.measured],
            **columns,
        }


@dataclass(frozen=True)
class PrecisionReport:
    """All modes, the band they are held against, and what the fp32 run's gradients and updates say beforehand.

    ``gradients``: magnitudes by group, over the steps looked at (first, middle, last). ``lost``: format -> group ->
    updates of the fp32 run that weights kept in that format would not take. ``window``: static scales that serve.
    """

    settings: PrecisionSettings
    band: tuple[tuple[float, float], ...]
    modes: tuple[ModeReport, ...]
    gradients: Mapping[str, Magnitudes]
    lost: Mapping[str, Mapping[str, LostUpdates]]
    window: ScaleWindow | None
    rows: int
    parameters: int

    def mode(self, name: str) -> ModeReport:
        return next(one for one in self.modes if one.mode.name == name)

    def lost_in(self, dtype: str) -> LostUpdates:
        """Over all groups."""
        return _all(self.lost.get(dtype, {}), dtype)

    def as_dict(self) -> dict[str, Any]:
        return {
            "settings": asdict(self.settings),
            "rows": self.rows,
            "parameters": self.parameters,
            "band": [list(one) for one in self.band],
            "modes": [one.as_dict() for one in self.modes],
            "gradients": [one.as_dict() for one in self.gradients.values()],
            "lost_updates": {
                dtype: {group: one.as_dict() for group, one in groups.items()} for dtype, groups in self.lost.items()
            },
            "scale_window": None if self.window is None else asdict(self.window),
        }


@dataclass(frozen=True)
class _Run:
    records: tuple[StepRecord, ...]
    measured: tuple[float, ...]
    looks: tuple[Look, ...]
    first: Mapping[str, Tensor]
    """The gradient of the first step, where it is asked for."""
    seconds: float


@dataclass(frozen=True)
class _Work:
    policy: Policy
    recipe: Recipe
    settings: PrecisionSettings
    trained: tuple[Sample, ...]
    measured: tuple[Sample, ...]

    def run(self, mode: PrecisionMode, order: int, tell: Callable[[], None], looked: bool = True) -> _Run:
        settings = self.settings
        trainer = Trainer(self.policy, mode, self.recipe, _scale(mode, settings))
        source = RowSource(self.trained, settings.batch, seed_for(settings.seed, "precision", "order", order))
        at = {0, settings.steps // 2, settings.steps - 1} if looked else set()
        records, measured, looks, began = [], [], [], time.perf_counter()
        first: Mapping[str, Tensor] = {}
        for step in range(settings.steps):
            record, look = trainer.step(source.draw(step), step in at)
            records.append(record)
            measured.append(trainer.loss_of(self.measured))
            looks += [] if look is None else [look]
            if step == 0 and looked and not record.overflow:
                first = {name: value.clone() for name, value in trainer.gradients().items()}
            tell()
        seconds = (time.perf_counter() - began) / settings.steps
        return _Run(tuple(records), tuple(measured), tuple(looks), first, seconds)


def measure_precision(
    policy: Policy,
    samples: Sequence[Sample],
    settings: PrecisionSettings,
    modes: Sequence[str] = (),
    objective: Objective | None = None,
    progress: Progress = ignore,
) -> PrecisionReport:
    """Trains copies of what trains in ``policy`` for a few steps in every mode; the model itself stays as it is.

    fp32 runs first, and in ``orders`` other orders of the same rows. Their losses on the measured rows span the band
    that chance alone gives; a mode that leaves it has other dynamics. The fp32 run is not of the band, so that it is
    the control: it should stay.
    ``modes``: names (see MODES); none: all. ``objective``: one that needs log-probs of the policy alone; default: SFT.
    Memory: at most 5 times the weights in float32 beside the model. Cost: (modes + orders) · steps training steps.
    Raises: UsageError: see ``PrecisionSettings.check`` and ``modes_of``; an fp32 run that is not finite.
    Edge cases: a few steps show an early departure; none shows that a long run would not depart.
    Source: arXiv 1710.03740, sections 3 and 4; the band is ours.
    """
    settings.check(len(samples))
    chosen = modes_of(modes)
    order = list(range(len(samples)))
    stream(settings.seed, "precision", "measured").shuffle(order)
    measured = tuple(samples[place] for place in order[: settings.measured])
    trained = tuple(samples[place] for place in order[settings.measured :])
    recipe = Recipe(
        objective or SupervisedFineTuning(), settings.learning_rate, settings.max_grad_norm, settings.token_budget
    )
    work = _Work(policy, recipe, settings, trained, measured)
    total = (len(chosen) + settings.orders) * settings.steps
    done = [0]

    def tell() -> None:
        done[0] += 1
        progress(done[0], total)

    base = work.run(MODES[BASE], 0, tell)
    others = [work.run(MODES[BASE], number, tell, looked=False) for number in range(1, settings.orders + 1)]
    curves = [run.measured for run in (base, *others)]
    if not all(math.isfinite(value) for curve in curves for value in curve):
        raise UsageError("learning_rate", "the loss is not finite in fp32 itself", "Lower it.")
    band = tuple(seed_band(curves[1:]))
    reports = [_report(MODES[BASE], base, base, band)]
    for mode in chosen[1:]:
        reports.append(_report(mode, work.run(mode, 0, tell), base, band))
    gradients = add_magnitudes(one for look in base.looks for one in look.gradients.values())
    lost = _lost(base.looks)
    parameters = sum(value.numel() for value in policy.trainable().values())
    return PrecisionReport(settings, band, tuple(reports), gradients, lost, scale_window(gradients.values()),
                           len(samples), parameters)  # fmt: skip


def _scale(mode: PrecisionMode, settings: PrecisionSettings) -> LossScale:
    if mode.scaling == "dynamic":
        return LossScale(settings.initial_scale, interval=settings.growth_interval)
    return LossScale.static(settings.static_scale if mode.scaling == "static" else 1.0)


def _report(mode: PrecisionMode, run: _Run, base: _Run, band: Sequence[tuple[float, float]]) -> ModeReport:
    vanished, cosine = (None, None) if not run.first else _against(run.first, base.first)
    lost = {} if mode.dtype == "float32" else _lost(run.looks).get(mode.dtype, {})
    gap = run.measured[-1] - base.measured[-1]
    return ModeReport(
        mode, run.records, run.measured, departure(run.measured, band), gap, vanished, cosine, lost, run.seconds
    )


@torch.no_grad()
def _against(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[float | None, float | None]:
    """The share of entries that are not 0 in ``base`` and 0 in ``own``, and the cosine of the two."""
    gone = there = 0
    products = torch.zeros(3, dtype=torch.float64)
    for name, exact in base.items():
        found = own[name]
        there += int((exact != 0).sum())
        gone += int(((exact != 0) & (found == 0)).sum())
        one, other = found.flatten().double(), exact.flatten().double()
        products += torch.stack([one @ other, one @ one, other @ other])
    norm = math.sqrt(float(products[1] * products[2]))
    return gone / there if there else None, float(products[0]) / norm if norm else None


def _lost(looks: Sequence[Look]) -> dict[str, dict[str, LostUpdates]]:
    sums: dict[str, dict[str, LostUpdates]] = {}
    for look in looks:
        for dtype, groups in look.lost.items():
            own = sums.setdefault(dtype, {})
            for group, one in groups.items():
                own[group] = own.get(group, LostUpdates(dtype)) + one
    return sums


def _all(groups: Mapping[str, LostUpdates], dtype: str = "") -> LostUpdates:
    return sum(groups.values(), LostUpdates(dtype))


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: None."""
    return value if value is not None and math.isfinite(value) else None
