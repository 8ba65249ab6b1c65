"""What a recipe may say: stages, the settings classes behind their keys, and the vetted defaults of each stage."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trimpot.core.errors import UsageError, nearest
from trimpot.core.settings import check_settings
from trimpot.data.prepare import MaskSettings
from trimpot.evaluation.run import EvaluationSettings
from trimpot.models.adapters import TrainableSettings
from trimpot.models.critic import CriticSettings
from trimpot.models.noise import NoiseSettings
from trimpot.objectives import OBJECTIVES, PRESETS
from trimpot.preflight.settings import PreflightSettings
from trimpot.recipe.settings import (
    DataSettings,
    HeldOutSettings,
    JudgeSettings,
    OnlineSettings,
    RowsSettings,
    StartSettings,
)
from trimpot.rollout.distill import DistillSettings
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.settings import RolloutSettings, check_together
from trimpot.training.settings import LoopSettings, OptimizerSettings

TRAINING = (StartSettings, RowsSettings, LoopSettings, OptimizerSettings, TrainableSettings)
SETTINGS: dict[str, tuple[type, ...]] = {
    "sft": (*TRAINING, MaskSettings, NoiseSettings),
    "distill": (*TRAINING, MaskSettings, DistillSettings, SamplingSettings),
    "reward": (*TRAINING, HeldOutSettings),
    "preference": (*TRAINING, OnlineSettings, JudgeSettings, SamplingSettings),
    "policy_gradient": (*TRAINING, RolloutSettings, JudgeSettings, SamplingSettings),
    "data": (DataSettings,),
    "evaluate": (EvaluationSettings, JudgeSettings),
}
OBJECTIVE_SETTINGS: dict[str, tuple[type, ...]] = {"ppo": (CriticSettings,)}
"""Settings that one objective has beside those of its stage."""
DEFAULT_OBJECTIVES = {
    "sft": "sft", "distill": "gkd", "reward": "bradley_terry", "preference": "dpo", "policy_gradient": "grpo",
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "reward": {"learning_rate": 1e-4},  # TRL's RewardConfig
    "preference": {"learning_rate": 1e-6},  # TRL's DPOConfig
    "policy_gradient": {"learning_rate": 1e-6},  # arXiv 2402.03300, section 4.2, and TRL's GRPOConfig
}
STAGE_ROWS = {
    "sft": "chat or text", "distill": "chat or prompt", "reward": "preference pair", "preference": "preference pair",
    "policy_gradient": "prompt", "data": "prompt",
}  # fmt: skip
OBJECTIVE_ROWS = {"kto": "feedback", "process_reward": "steps"}
SAMPLING = tuple(field.name for field in dataclasses.fields(SamplingSettings))
WORKS_WITH: tuple[tuple[tuple[str, ...], str, tuple[Any, ...] | None], ...] = (
    (("lora_rank", "lora_alpha", "lora_targets", "dora", "rslora"), "trainable", ("lora",)),
    (("last_layers",), "trainable", ("last_k",)),
    (("virtual_tokens",), "trainable", ("prompt", "prefix")),
    (("samples", "rewards", "reward_time_limit", "combine", *SAMPLING), "online", (True,)),
    (("uncertainty_weight",), "combine", ("uncertainty",)),
    (("per_prompt",), "method", ("rejection", "distillation")),
    (("steps",), "compute_of", (None,)),
    (("trusted_every",), "trusted", None),
    (("overlong_penalty",), "overlong_buffer", None),
    (("judge", "combine"), "best_of", None),
)
"""Keys that do nothing unless another setting has one of these values (None: any but its default)."""


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe, checked. ``name`` is its folder."""

    kind: str
    name: str
    settings: Mapping[type, Any]
    objective: Any = None

    def get(self, kind: type) -> Any:
        return self.settings[kind]

    @property
    def rows(self) -> str:
        """The kind of row it reads."""
        if self.samples:
            return "prompt"
        own = None if self.objective is None else OBJECTIVE_ROWS.get(self.objective.name)
        return own or STAGE_ROWS.get(self.kind, "prompt")

    @property
    def samples(self) -> bool:
        """Whether it trains on completions of the policy that rewards score."""
        return RolloutSettings in self.settings or (OnlineSettings in self.settings and self.get(OnlineSettings).online)

    @property
    def start(self) -> str | None:
        """The stage (or base) whose model it begins with. None: the model as it is."""
        part = StartSettings if StartSettings in self.settings else DataSettings
        start: str | None = self.get(part).start if part in self.settings else None
        return start

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
    objective_type: Any = _objective_type(kind, values.pop("objective", DEFAULT_OBJECTIVES.get(kind)), name)
    presets: Mapping[str, Mapping[str, Any]] = PRESETS.get(objective_type.name, {}) if objective_type else {}
    preset = values.pop("preset", None)
    if preset is not None and str(preset) not in presets:
        mend = nearest(str(preset), presets) if presets else "This objective has none: leave preset out."
        raise UsageError(f"{name}.preset", f"{preset!r} is unknown", mend)
    merged = {**DEFAULTS.get(kind, {}), **(presets[preset] if preset is not None else {}), **values}
    if merged.get("normalisation", getattr(objective_type, "normalisation", None)) == "fixed":
        merged.setdefault("completion_limit", merged.get("max_tokens", SamplingSettings().max_tokens))
    own = () if objective_type is None else (*OBJECTIVE_SETTINGS.get(objective_type.name, ()), objective_type)
    classes = (*SETTINGS[kind], *own)
    known: dict[str, type] = {field.name: cls for cls in classes for field in dataclasses.fields(cls)}
    extra = (("objective",) if objective_type else ()) + (("preset",) if presets else ())
    for key in merged:
        if key not in known:
            raise UsageError(f"{name}.{key}", "is not a setting of this stage", nearest(str(key), [*known, *extra]))
    parts = {cls: _build(cls, {k: v for k, v in merged.items() if known[k] is cls}, name) for cls in classes}
    objective: Any = parts.pop(objective_type) if objective_type else None
    stage = Stage(kind, name, parts, objective)
    _refuse_idle(stage, values)
    _refuse_together(stage)
    return stage


def build_preflight(given: Any, where: str) -> PreflightSettings:
    """Checks what a recipe says about the checks before its run.

    Raises:
        UsageError: not a mapping, an unknown key, the name of no check.
    """
    if not isinstance(given, Mapping | None):
        raise UsageError(where, f"{given!r} is not a mapping", "Write 'preflight: {skip: [duplicates]}'.")
    known = [field.name for field in dataclasses.fields(PreflightSettings)]
    for key in given or {}:
        if key not in known:
            raise UsageError(f"{where}.{key}", "is not a setting of it", nearest(str(key), known))
    checks: PreflightSettings = _build(PreflightSettings, given or {}, where)
    return checks


def _refuse_idle(stage: Stage, given: Mapping[str, Any]) -> None:
    """Keys that are given and would do nothing: who writes lora_rank and forgets trainable: lora trains all weights."""
    values = stage.values()
    defaults = {field.name: field.default for part in stage.settings for field in dataclasses.fields(part)}
    for keys, other, wanted in WORKS_WITH:
        idle = next((key for key in keys if key in given and other in values), None)
        if idle is None:
            continue
        value = values[other]
        if value != defaults[other] if wanted is None else value in wanted:
            continue
        set_other = f"Set {other}" if wanted is None else f"Set {other}: {' or '.join(map(_written, wanted))}"
        mend = f"Leave {idle} or {other} out." if wanted == (None,) else f"{set_other}, or leave {idle} out."
        raise UsageError(f"{stage.name}.{idle}", f"does nothing with {other}: {_written(value)}", mend)


def _written(value: Any) -> str:
    """A value as a recipe has it."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _refuse_together(stage: Stage) -> None:
    """Settings that are each in their range and cannot work together."""
    parts, objective, name = stage.settings, stage.objective, stage.name
    if RolloutSettings in parts:
        check_together(parts[SamplingSettings], parts[LoopSettings].batch, parts[RolloutSettings], objective, name)
    if HeldOutSettings in parts and parts[HeldOutSettings].trusted and objective.name != "bradley_terry":
        raise UsageError(f"{name}.trusted", f"{objective.name} does not learn from pairs", "Leave trusted out.")
    if DataSettings in parts and (parts[DataSettings].method == "distillation") != bool(parts[DataSettings].teacher):
        problem = "is missing" if parts[DataSettings].method == "distillation" else "serves distillation only"
        raise UsageError(f"{name}.teacher", problem, "Give method: distillation and its teacher, or neither.")
    if OnlineSettings in parts and parts[OnlineSettings].online and objective.name in OBJECTIVE_ROWS:
        problem = f"{objective.name} learns from single answers, and online sampling makes pairs"
        raise UsageError(f"{name}.objective", problem, "Take an objective on pairs, such as dpo.")
    if OnlineSettings in parts and parts[OnlineSettings].online and parts[SamplingSettings].temperature == 0:
        raise UsageError(f"{name}.temperature", "0 gives equal completions, and no pair", "Sample at 1.0.")
    if DataSettings in parts and parts[DataSettings].method == "pairs":
        made: DataSettings = parts[DataSettings]
        if made.samples < 2 or made.temperature == 0:
            problem = f"{made.samples} of each prompt at temperature {made.temperature:g} make no pair"
            raise UsageError(f"{name}.samples", problem, "Sample at least 2 at a temperature above 0.")
    if EvaluationSettings in parts and parts[EvaluationSettings].best_of == 1:
        raise UsageError(f"{name}.best_of", "1 leaves nothing to pick", "Give at least 2, or samples: 1 for a sample.")


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
    try:
        result = cls(**values)
    except UsageError as error:  # from settings that check themselves, and know no stage
        raise UsageError(f"{name}.{error.where}", error.problem, error.mend) from error
    check_settings(result, name)
    return result


KINDS = {"collections.abc.Mapping[str, float]": "mapping of names to numbers", "tuple[str, ...]": "list of texts"}
"""How types are called in an error, where Python's name says little."""


def convert(hint: Any, value: Any, where: str) -> Any:
    """A value as the declared type; numbers may come as text (YAML reads 5e-5 as text).

    Raises:
        UsageError: it, or an entry of it, is of another type.
    """
    union = isinstance(hint, types.UnionType)
    kinds = [one for one in typing.get_args(hint) if one is not types.NoneType] if union else [hint]
    if isinstance(value, bool) and bool not in kinds and {int, float} & set(kinds):
        # YAML reads yes and on as true, which would count as 1.
        raise UsageError(where, f"{value} is not a number", "Give a number.")
    if isinstance(value, Mapping) and typing.get_origin(kinds[0]) is Mapping:
        entry = typing.get_args(kinds[0])[1]
        value = {key: convert(entry, one, f"{where}.{key}") for key, one in value.items()}
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        wanted = " or ".join(KINDS.get(str(one), getattr(one, "__name__", str(one))) for one in kinds)
        raise UsageError(where, f"{value!r} is not of type {wanted}", "Give a value of that type.") from error
