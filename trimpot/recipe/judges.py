"""The rewards of a stage: verifiers and functions by name, reward models of earlier stages or folders, ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import AutoModelForSequenceClassification, AutoTokenizer

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import PromptRow
from trimpot.models.compatible import refuse_other_tokens, refuse_virtual_tokens
from trimpot.models.policy import Policy
from trimpot.models.reward import RewardModel
from trimpot.recipe.names import model_of, named_stage
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import ENSEMBLE, JudgeSettings, OnlineSettings
from trimpot.rollout.rewards import Judge, RewardModelJudge, Rewards
from trimpot.rollout.settings import RolloutSettings
from trimpot.rollout.verifiers import VERIFIERS
from trimpot.store.run_folder import RunFolder


def reward_weights(stage: Stage) -> Mapping[str, float] | None:
    """The names and weights of a stage's rewards. None: each row's own verifier."""
    weights: Mapping[str, float] | None = _settings(stage).rewards
    return weights


def _settings(stage: Stage) -> RolloutSettings | OnlineSettings:
    found: RolloutSettings | OnlineSettings = stage.get(
        RolloutSettings if RolloutSettings in stage.settings else OnlineSettings
    )
    return found


def model_names(weights: Mapping[str, float] | None) -> list[str]:
    """Those of the rewards that are reward models: a stage, a folder, or an ensemble of them."""
    return [name for name in weights or () if all(_is_model(part) for part in name.split(ENSEMBLE))]


def _is_model(part: str) -> bool:
    return part not in VERIFIERS and (named_stage(part) is not None or Path(part).is_dir())


def check_rewards(stage: Stage, rows: Sequence[PromptRow], earlier: Sequence[Stage]) -> None:
    """Tries a stage's rewards before anything trains: unknown names, and functions that fail on a row's own answer.

    Raises:
        UsageError: one line that names the reward.
    """
    weights = reward_weights(stage)
    models = model_names(weights)
    for name in models:
        check_judge(f"{stage.name}.rewards", name, earlier)
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


def check_judge(where: str, name: str, earlier: Sequence[Stage]) -> None:
    """Raises UsageError unless the reward models of a name that are stages come from earlier reward stages."""
    trained = [one.name for one in earlier if one.kind == "reward" and one.objective.name == "bradley_terry"]
    for part in name.split(ENSEMBLE):
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
    models = [load_reward_model(model_of(part, run), policy) for part in name.split(ENSEMBLE)]
    return RewardModelJudge(models, how.combine, how.uncertainty_weight)


def _rewards(stage: Stage, judges: Mapping[str, Judge]) -> Rewards:
    return Rewards(reward_weights(stage), judges, _settings(stage).reward_time_limit)


def load_reward_model(folder: str, policy: Policy) -> RewardModel:
    """A reward model from a transformers folder, on the policy's device.

    Raises:
        UsageError: it cannot be loaded, or reads another vocabulary than the policy writes.
    """
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=policy.model.dtype, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(folder, f"is no reward model ({reason})", "Give the folder of a reward stage.") from error
    if model.config.num_labels != 1 or any(key.startswith("score") for key in loading["missing_keys"]):
        raise UsageError(folder, "has no reward head", "Give the folder of a reward stage, not that of a policy.")
    refuse_other_tokens(folder, tokenizer, policy)
    refuse_virtual_tokens(folder, policy)
    model.to(policy.device).requires_grad_(False)
    return RewardModel(model, tokenizer, folder)
