"""Whether the models of every stage can work together, asked before a run of the model at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimpot.evaluation.best_of import MAJORITY, VERIFIER
from trimpot.evaluation.run import EvaluationSettings
from trimpot.models import virtual_tokens
from trimpot.models.adapters import TrainableSettings, check_on, check_trainable, refuse_other_virtual_tokens
from trimpot.models.compatible import refuse_virtual_count
from trimpot.models.critic import CriticSettings
from trimpot.models.load import load
from trimpot.models.policy import Policy
from trimpot.models.student import refuse_teacher
from trimpot.recipe.judges import judge_models, load_reward_model, model_names, parts_of, reward_weights
from trimpot.recipe.names import BASE, TRAINS_POLICY, named_stage
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import DataSettings
from trimpot.rollout.distill import DistillSettings


@dataclass(frozen=True)
class Virtual:
    """The virtual tokens of a policy: their kind (None: there are none) and number."""

    kind: str | None = None
    count: int = 0


class Descent:
    """Which virtual tokens the policy has from stage to stage. All else that models must agree in they all have of the
    recipe's model, as every stage begins with it or with what another stage made of it.

    ``policy`` is the model before the first stage that is not in ``done``; after earlier stages of a resumed run it
    may not be known (None).
    """

    def __init__(self, policy: Policy, stages: Sequence[Stage], done: Sequence[str] = ()) -> None:
        now = Virtual(virtual_tokens.kind_of(policy.model), len(policy.virtual_ids))
        finished = [stage for stage in stages if stage.name in done]
        trained = any(stage.kind in TRAINS_POLICY for stage in finished)
        # Virtual tokens never go away: where there are none now there were none before.
        self.now: Virtual | None = None if trained and now.count else now
        self.after: dict[str, Virtual | None] = {BASE: self.now}
        for stage in finished:
            self.pass_on(stage)
        self.now = now

    def before(self, stage: Stage) -> Virtual | None:
        """Those of the model that a stage begins with."""
        return self.now if stage.start is None else self.after.get(stage.start)

    def during(self, stage: Stage) -> Virtual | None:
        """Those of the policy that a stage trains, samples from, or copies the trunk of."""
        settings = stage.settings.get(TrainableSettings)
        if settings is not None and settings.trainable in virtual_tokens.KINDS:
            return Virtual(settings.trainable, settings.virtual_tokens)
        return self.before(stage)

    def pass_on(self, stage: Stage) -> None:
        """What the stages after this one find."""
        if stage.kind in TRAINS_POLICY:
            self.now = self.after[stage.name] = self.during(stage)


def check_models(recipe: Recipe, stage: Stage, policy: Policy, descent: Descent) -> None:
    """Raises UsageError where a stage would find that its models cannot work together, or cannot be loaded.

    Models that a stage names by folder are loaded, asked, and let go.
    """
    if TrainableSettings in stage.settings:
        settings: TrainableSettings = stage.get(TrainableSettings)
        check_trainable(settings, reward_model=stage.kind == "reward")
        check_on(policy, settings)
        before = descent.before(stage)
        if before is not None and before.kind is not None and settings.trainable in virtual_tokens.KINDS:
            refuse_other_virtual_tokens(settings, before.kind, before.count)
    found = descent.during(stage)
    count = 0 if found is None else found.count
    if stage.kind == "reward":
        refuse_virtual_count("reward model", count)
    for name in judges_of(stage):
        refuse_virtual_count("reward model", count)
        judge_models([part for part in parts_of(name) if named_stage(part) is None], policy)
    if CriticSettings in stage.settings:
        refuse_virtual_count("critic", count)
        critic = stage.get(CriticSettings).critic
        if critic is not None and named_stage(critic) is None:
            load_reward_model(critic, policy)
    _check_teacher(recipe, stage, policy, descent, count)


def judges_of(stage: Stage) -> list[str]:
    """The reward models that score a stage's completions, by name."""
    if stage.samples:
        return model_names(reward_weights(stage))
    if stage.kind == "evaluate":
        settings: EvaluationSettings = stage.get(EvaluationSettings)
        return [settings.judge] if settings.best_of and settings.judge not in (MAJORITY, VERIFIER) else []
    return []


def _check_teacher(recipe: Recipe, stage: Stage, policy: Policy, descent: Descent, count: int) -> None:
    distils = DistillSettings in stage.settings
    name = stage.get(DistillSettings if distils else DataSettings).teacher if distils or stage.kind == "data" else None
    if name is None:
        return
    if distils:
        refuse_virtual_count("teacher", count)
    made_by = named_stage(name)
    if made_by is None:
        teacher = load(name, recipe.device, recipe.dtype, recipe.seed)
        if distils:
            refuse_teacher(teacher, policy)
    elif distils and (theirs := descent.after.get(made_by)) is not None:
        refuse_virtual_count("student", theirs.count)
