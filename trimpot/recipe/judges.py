"""The rewards of a stage: verifiers and functions by name, reward models of earlier stages or folders, ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import AutoModelForSequenceClassification, AutoTokenizer

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import PromptRow
from trimpot.models.compatible import refuse_other_tokens, refuse_virtual_tokens
from trimpot.models.load import folder_of
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.recipe.names import model_of, named_stage
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import ENSEMBLE, JudgeSettings, OnlineSettings
from trimpot.rollout.rewards import Judge, RewardModelJudge, Rewards
from trimpot.rollout.settings import RolloutSettings
from trimpot.rollout.verifiers import VERIFIERS
from trimpot.store.run_folder import RunFolder

SCORES, ANSWERS, STEPS = "reward_model_scores", "answers", "steps"
"""The key of a reward model's configuration that says what it scores, and its values; without it: answers."""


def reward_weights(stage: Stage) -> Mapping[str, float] | None:
    """The names and weights of a stage's rewards. None: each row's own verifier."""
    weights: Mapping[str, float] | None = _settings(stage).rewards
    return weights


def _settings(stage: Stage) -> RolloutSettings | OnlineSettings:
    found: RolloutSettings | OnlineSettings = stage.get(
        RolloutSettings if RolloutSettings in stage.settings else OnlineSettings
    )
    return found


def parts_of(name: str) -> list[str]:
    """The reward models that a name joins; the name itself where it is a folder with the sign in its path."""
    return [name] if Path(name).is_dir() else name.split(ENSEMBLE)


def model_names(weights: Mapping[str, float] | None) -> list[str]:
    """Those of the rewards that are reward models: a stage, a folder, or an ensemble of them."""
    return [name for name in weights or () if any(_is_model(part) for part in parts_of(name))]


def _is_model(part: str) -> bool:
    return part not in VERIFIERS and (named_stage(part) is not None or Path(part).is_dir())


def check_rewards(stage: Stage, rows: Sequence[PromptRow]) -> None:
    """Tries a stage's rewards before anything trains: unknown names, and functions that fail on a row's own answer.

    Raises:
        UsageError: one line that names the reward.
    """
    weights = reward_weights(stage)
    models = model_names(weights)
    for name in weights or ():
        if name not in models and name not in VERIFIERS and ":" not in name:
            problem = f"{name!r} is no verifier, and there is no such folder"
            mend = f"{nearest(name, VERIFIERS)} Or name file.py:function, stage:NAME or the folder of a reward model."
            raise UsageError(f"{stage.name}.rewards", problem, mend)
    check_combination(stage, models)
    if weights is not None and not any(weights.values()):
        raise UsageError(f"{stage.name}.rewards", "has no reward with a weight", "Give one a weight other than 0.")
    gold = stage.get(RolloutSettings).gold if RolloutSettings in stage.settings else None
    if gold is not None and gold not in (weights or {}):
        mend = (
            nearest(gold, weights) if weights else f"Name the rewards, such as {{{gold}: 0}} and the one to train on."
        )
        raise UsageError(f"{stage.name}.gold", f"{gold!r} is none of the rewards", mend)
    if weights is None or len(models) < len(weights):
        with _rewards(stage, {name: _unused for name in models}) as rewards:
            rewards.check(rows)


def check_combination(stage: Stage, names: Sequence[str]) -> None:
    """Raises UsageError for a way to combine reward models where none of the names joins several."""
    how = stage.get(JudgeSettings).combine
    if how != JudgeSettings().combine and not any(len(parts_of(name)) > 1 for name in names):
        mend = f"Join reward models, as in stage:reward{ENSEMBLE}stage:reward-2, or leave combine out."
        raise UsageError(f"{stage.name}.combine", f"{how} has no ensemble to combine", mend)


def check_judge(where: str, name: str, earlier: Sequence[Stage]) -> None:
    """Raises UsageError unless the reward models of a name that are stages come from earlier reward stages."""
    trained = [one.name for one in earlier if one.kind == "reward" and one.objective.name == "bradley_terry"]
    for part in parts_of(name):
        wanted = named_stage(part)
        if wanted is not None and wanted not in trained:
            mend = nearest(wanted, trained) if trained else "Put a reward stage before it."
            raise UsageError(where, f"no earlier stage {wanted!r} trains a reward model", mend)
        if not _is_model(part):
            raise UsageError(where, f"{part!r} is neither a stage nor a folder", "Name stage:NAME or a reward model.")


def _unused(prompts: object, groups: object) -> list[list[float]]:
    raise AssertionError("a reward model is not asked before the run")


def rewards_of(stage: Stage, run: RunFolder, policy: Policy) -> Rewards:
    """The rewards of a stage about to begin, with its reward models loaded."""
    how: JudgeSettings = stage.get(JudgeSettings)
    judges = {name: model_judge(name, how, run, policy) for name in model_names(reward_weights(stage))}
    return _rewards(stage, judges)


def model_judge(name: str, how: JudgeSettings, run: RunFolder, policy: Policy) -> RewardModelJudge:
    """The reward model of a name (a stage or a folder), or the ensemble of several."""
    refuse_virtual_tokens("reward model", policy)
    models = judge_models([model_of(part, run) for part in parts_of(name)], policy)
    return RewardModelJudge(models, how.combine, how.uncertainty_weight)


def judge_models(folders: Sequence[str], policy: Policy) -> list[RewardModel]:
    """The reward models in these folders, which score answers to the policy's prompts.

    Raises:
        UsageError: as ``load_reward_model``, or one is a process reward model.
    """
    models = [load_reward_model(folder, policy) for folder in folders]
    for folder, model in zip(folders, models, strict=True):
        if getattr(model.model.config, SCORES, ANSWERS) != ANSWERS:
            problem = "is a process reward model: it scores steps, not answers"
            raise UsageError(folder, problem, "Give a reward model trained on preference pairs.")
    return models


def _rewards(stage: Stage, judges: Mapping[str, Judge]) -> Rewards:
    return Rewards(reward_weights(stage), judges, _settings(stage).reward_time_limit)


def load_reward_model(folder: str, policy: Policy) -> RewardModel:
    """A reward model from a transformers folder, on the policy's device.

    Raises:
        UsageError: it cannot be loaded, or reads another vocabulary than the policy writes.
    """
    place = folder_of(folder)
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            place, dtype=policy.model.dtype, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(folder, f"is no reward model ({reason})", "Give the folder of a reward stage.") from error
    if model.config.num_labels != 1 or any(key.startswith("score") for key in loading["missing_keys"]):
        raise UsageError(folder, "has no reward head", "Give the folder of a reward stage, not that of a policy.")
    refuse_other_tokens(folder, tokenizer, policy)
    model.to(policy.device).requires_grad_(False)
    return RewardModel(model, tokenizer, folder)
