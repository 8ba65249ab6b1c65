"""The numbers of a report, as plain dataclasses: the page and ``--json`` show the same ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from trimpot.site.scores import Comparison, Evaluation, SliceRow, evaluate, side_by_side, slice_rows
from trimpot.store.outcomes import Outcome, read_outcomes
from trimpot.store.run_folder import RunFolder, StageFolder

NOT_CURVES = ("step", "time", "epoch")
FIRST_CURVES = ("loss", "reward", "rewards/", "entropy", "kl", "grad_norm", "learning_rate")
"""The curves that come first, in this order; a name ending in / stands for all that begin with it."""


@dataclass(frozen=True)
class Curve:
    """One metric of one stage. A step that did not report it is left out; NaN and infinity stay."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def finite(self) -> tuple[float, ...]:
        return tuple(value for value in self.values if math.isfinite(value))

    @property
    def is_first(self) -> bool:
        return _rank(self.name) < len(FIRST_CURVES)


@dataclass(frozen=True)
class Alarm:
    """A finding of a detector in a stage, as it was logged."""

    stage: str
    step: int
    detector: str
    metric: str
    value: float | None
    threshold: float | None
    message: str
    mend: str
    card: str


@dataclass(frozen=True)
class StageSummary:
    """One stage: what it did, what it took, how its model did, what was wrong.

    Units: ``seconds`` is the whole stage with its evaluation; ``tokens_per_second`` is of the training alone.
    """

    name: str
    kind: str
    status: str
    did: str
    steps: int | None
    seconds: float | None
    tokens: int | None
    tokens_per_second: float | None
    evaluation: Evaluation | None
    alarms: tuple[Alarm, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RunSummary:
    """Everything a report says about a run. ``evaluated`` names the stages that the slices have a cell for."""

    name: str
    model: str
    seed: int | None
    started: str | None
    seconds: float | None
    environment: Mapping[str, Any]
    stages: tuple[StageSummary, ...]
    evaluated: tuple[str, ...]
    base: str | None
    slices: tuple[SliceRow, ...]
    comparisons: tuple[Comparison, ...]
    recipe: str

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        return tuple(alarm for stage in self.stages for alarm in stage.alarms)

    def label(self, stage: str) -> str:
        """How a stage is called where models are compared: its name, or "base" for the base model's."""
        return "base" if stage == self.base else stage

    @property
    def last_evaluated(self) -> StageSummary | None:
        """The last stage with an evaluation."""
        return next((stage for stage in reversed(self.stages) if stage.evaluation), None)


def summarise(run: RunFolder) -> RunSummary:
    """Reads a run folder and computes what its report says.

    Raises:
        UsageError: a file of the run cannot be read; names it.
    """
    folders = run.stages()
    by_stage = {stage.name: read_outcomes(stage.outcomes_path) for stage in folders if stage.outcomes_path.exists()}
    base = next((stage.name for stage in folders if stage.name in by_stage and _is_base(stage)), None)
    stages = tuple(_stage_summary(stage, by_stage, base) for stage in folders)
    model, seed = _model_and_seed(run.recipe_text)
    timed = [stage.seconds for stage in stages if stage.seconds is not None]
    environment = run.environment
    return RunSummary(
        name=run.name,
        model=model,
        seed=seed,
        started=environment.get("time"),
        seconds=sum(timed) if timed else None,
        environment=environment,
        stages=stages,
        evaluated=tuple(by_stage),
        base=base,
        slices=slice_rows(by_stage),
        comparisons=side_by_side(by_stage),
        recipe=run.recipe_text,
    )


def as_json(summary: RunSummary) -> dict[str, Any]:
    """The summary as JSON-able values; a number that is not finite becomes None, as JSON has none."""
    result: dict[str, Any] = _plain(dataclasses.asdict(summary))
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_base(stage: StageFolder) -> bool:
    record = stage.record()
    return record["kind"] == "evaluate" and record["index"] == 0


def _stage_summary(stage: StageFolder, by_stage: Mapping[str, Sequence[Outcome]], base: str | None) -> StageSummary:
    record, metrics = stage.record(), stage.metrics()
    seconds, tokens = record.get("seconds"), record.get("tokens")
    training_seconds = record.get("training_seconds", seconds)
    evaluation = None
    if stage.name in by_stage:
        evaluation = evaluate(by_stage[stage.name], None if base in (None, stage.name) else by_stage[str(base)])
    notes = record.get("notes") or ()
    return StageSummary(
        name=stage.name,
        kind=record["kind"],
        status=record.get("status", "running"),
        did=_did(record, is_base=stage.name == base),
        steps=max((row["step"] for row in metrics if "step" in row), default=None),
        seconds=seconds,
        tokens=tokens,
        tokens_per_second=tokens / training_seconds if tokens and training_seconds else None,
        evaluation=evaluation,
        alarms=tuple(_alarm(stage.name, row) for row in stage.alarms()),
        curves=_curves(metrics),
        notes=(notes,) if isinstance(notes, str) else tuple(str(note) for note in notes),
    )


_DID = {
    "data": "prepared rows",
    "sft": "supervised fine-tuning",
    "reward": "trained a reward model",
    "preference": "preference optimisation",
    "policy_gradient": "policy gradient",
    "distill": "distillation",
    "evaluate": "evaluated the model",
}
_TOLD = ("objective", "learning_rate", "beta", "group", "adapter", "suite")


def _did(record: Mapping[str, Any], is_base: bool) -> str:
    """One line: the kind in words and the settings that tell one stage from another."""
    if is_base:
        return "evaluated the base model"
    words = _DID.get(record["kind"], record["kind"])
    settings = record.get("settings") or {}
    told = [f"{name} {settings[name]}" for name in _TOLD if settings.get(name) is not None]
    return f"{words}: {', '.join(told)}" if told else words


def _alarm(stage: str, row: Mapping[str, Any]) -> Alarm:
    words = {name: str(row.get(name, "")) for name in ("detector", "metric", "message", "mend", "card")}
    return Alarm(stage=stage, step=row["step"], value=row.get("value"), threshold=row.get("threshold"), **words)


def _curves(metrics: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    points: dict[str, list[tuple[int, float]]] = {}
    for row in metrics:
        for name, value in row.items():
            if name not in NOT_CURVES and isinstance(value, int | float) and not isinstance(value, bool):
                points.setdefault(name, []).append((row.get("step", 0), float(value)))
    curves = [
        Curve(name, tuple(step for step, _ in series), tuple(value for _, value in series))
        for name, series in points.items()
    ]
    return tuple(sorted(curves, key=lambda curve: (_rank(curve.name), curve.name)))


def _rank(name: str) -> int:
    for position, first in enumerate(FIRST_CURVES):
        if name == first or (first.endswith("/") and name.startswith(first)):
            return position
    return len(FIRST_CURVES)


def _model_and_seed(recipe: str) -> tuple[str, int | None]:
    try:
        read = yaml.safe_load(recipe)
    except yaml.YAMLError:
        read = None
    if not isinstance(read, dict):
        return "unknown model", None
    seed = read.get("seed")
    return str(read.get("model", "unknown model")), seed if isinstance(seed, int) else None
