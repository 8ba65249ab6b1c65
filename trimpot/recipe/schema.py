"""What a recipe may say: stages, the settings classes behind their keys, and the vetted defaults of each stage."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trimpot.core.errors import UsageError, nearest
from trimpot.core.settings import check_settings, setting
from trimpot.evaluation.run import EvaluationSettings
from trimpot.models.adapters import TrainableSettings
from trimpot.objectives import OBJECTIVES
from trimpot.objectives.policy_gradient.grpo import PRESETS
from trimpot.rollout.engine import SamplingSettings
from trimpot.rollout.source import GroupSettings
from trimpot.training.settings import LoopSettings, OptimizerSettings


@dataclass(frozen=True)
class RowsSettings:
    """Which rows a stage trains on."""

    data: str | None = setting(None, "a file, embedded:NAME, or stage:NAME for the rows an earlier stage wrote")
    rows: int | None = setting(None, "use at most this many rows", at_least=1)


@dataclass(frozen=True)
class PairSettings:
    """Preference pairs constructed from the model's own samples, judged by the rows' verifier."""

    prompts: str | None = setting(None, "rows with a verifier: a file or embedded:NAME")
    rows: int | None = setting(None, "use at most this many prompts", at_least=1)
    samples: int = setting(8, "completions sampled of each prompt", at_least=2)
    temperature: float = setting(1.0, "of the samples", at_least=0)
    max_tokens: int = setting(24, "longest completion in tokens", at_least=1)


TRAINING = (RowsSettings, LoopSettings, OptimizerSettings, TrainableSettings)
SETTINGS: dict[str, tuple[type, ...]] = {
    "sft": TRAINING,
    "reward": TRAINING,
    "preference": TRAINING,
    "policy_gradient": (*TRAINING, GroupSettings, SamplingSettings),
    "data": (PairSettings,),
    "evaluate": (EvaluationSettings,),
}
ROW_KINDS = {"sft": "chat", "reward": "preference pair", "preference": "preference pair", "policy_gradient": "prompt"}
DEFAULT_OBJECTIVES = {"sft": "sft", "reward": "bradley_terry", "preference": "dpo", "policy_gradient": "grpo"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "reward": {"learning_rate": 1e-4},  # TRL's RewardConfig
    "preference": {"learning_rate": 1e-6},  # TRL's DPOConfig
    "policy_gradient": {"learning_rate": 1e-6},  # arXiv 2402.03300, section 4.2, and TRL's GRPOConfig
}


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe, checked. ``name`` is its folder."""

    kind: str
    name: str
    settings: Mapping[type, Any]
    objective: Any = None

    def get(self, kind: type) -> Any:
        return self.settings[kind]

    def values(self) -> dict[str, Any]:
        """Every setting of the stage with its value, defaults included."""
        values = {key: value for part in self.settings.values() for key, value in dataclasses.asdict(part).items()}
        if self.objective is not None:
            values.update({"objective": self.objective.name, **dataclasses.asdict(self.objective)})
        return values


def build_stage(kind: str, name: str, given: Mapping[str, Any]) -> Stage:
    """Checks a stage's keys, types and ranges and fills in defaults.

    Raises:
        UsageError: an unknown stage, key (names the nearest) or choice, a wrong type, a value out of range.
    """
    if kind not in SETTINGS:
        raise UsageError(f"stage {kind!r}", "is unknown", nearest(kind, SETTINGS))
    values = dict(given)
    objective_type = _objective_type(kind, values.pop("objective", DEFAULT_OBJECTIVES.get(kind)), name)
    preset = values.pop("preset", None)
    base = dict(DEFAULTS.get(kind, {}))
    if preset is not None:
        if kind != "policy_gradient" or preset not in PRESETS:
            raise UsageError(f"{name}.preset", f"{preset!r} is unknown", nearest(str(preset), PRESETS))
        base.update(PRESETS[preset])
    merged = {**base, **values}
    if merged.get("normalisation") == "fixed":
        merged.setdefault("completion_limit", merged.get("max_tokens", SamplingSettings().max_tokens))
    classes = SETTINGS[kind] + ((objective_type,) if objective_type else ())
    known = {field.name: cls for cls in classes for field in dataclasses.fields(cls)}
    extra = ("objective", "preset") if kind == "policy_gradient" else (("objective",) if objective_type else ())
    for key in merged:
        if key not in known:
            raise UsageError(f"{name}.{key}", "is not a setting of this stage", nearest(key, [*known, *extra]))
    parts = {cls: _build(cls, {k: v for k, v in merged.items() if known[k] is cls}, name) for cls in classes}
    objective = parts.pop(objective_type) if objective_type else None
    return Stage(kind, name, parts, objective)


def _objective_type(kind: str, objective: Any, name: str) -> type | None:
    if kind not in DEFAULT_OBJECTIVES:
        return None
    fitting = [key for key, cls in OBJECTIVES.items() if cls.stage == kind]
    if objective not in fitting:
        raise UsageError(f"{name}.objective", f"{objective!r} is no {kind} objective", nearest(str(objective), fitting))
    found: type = OBJECTIVES[objective]
    return found


def _build(cls: type, given: Mapping[str, Any], name: str) -> Any:
    hints = typing.get_type_hints(cls)
    values = {key: convert(hints[key], value, f"{name}.{key}") for key, value in given.items()}
    result = cls(**values)
    check_settings(result, name)
    return result


def convert(hint: Any, value: Any, where: str) -> Any:
    """A value as the declared type; numbers may come as text (YAML reads 5e-5 as text).

    Raises:
        UsageError: it is of another type.
    """
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        wanted = getattr(hint, "__name__", str(hint))
        raise UsageError(where, f"{value!r} is not of type {wanted}", "Give a value of that type.") from error
