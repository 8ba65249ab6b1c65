"""The checks before a run: names, rows and models; what is wrong is named before anything trains or is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import PromptRow, Row
from trimpot.core.samples import Sample
from trimpot.data.forms import EITHER
from trimpot.data.load import load_rows
from trimpot.data.prepare import split_held_out
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.best_of import MAJORITY, VERIFIER
from trimpot.evaluation.run import TIME_LIMIT, EvaluationSettings
from trimpot.models.policy import Policy
from trimpot.models.virtual_tokens import ids_from
from trimpot.recipe.context import prepare, read_rows, source_of, stage_seed
from trimpot.recipe.fits import Descent, check_models, judges_of
from trimpot.recipe.judges import check_combination, check_judge, check_rewards
from trimpot.recipe.names import BASE, FROM_STAGE, TRAINS_POLICY, named_stage
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import DataSettings, HeldOutSettings, StartSettings
from trimpot.rollout.engine import context_limit
from trimpot.rollout.environments import find_environment
from trimpot.rollout.rewards import Rewards
from trimpot.rollout.sampling import SamplingSettings
from trimpot.rollout.settings import RolloutSettings
from trimpot.rollout.verifiers import VERIFIERS

WRITES = {"pairs": "preference pair", "rejection": "chat", "distillation": "chat"}
"""The kind of row that a data stage writes, by its method."""
SERVES_AS = {"feedback": ("preference pair",), "prompt": ("chat",)}
"""Kinds of row that are read as another kind (see ``data.forms``)."""

PARTS = ("reward model", "critic", "teacher", "student")
"""Models beside the policy, as errors of ``models`` name them."""


@dataclass(frozen=True)
class Checked:
    """What the checks found: the rows of every stage that reads them before the run, and the evaluation's items.

    ``tokens``: of each stage's mean row (a prompt's where it samples).
    """

    rows: dict[str, list[Row]]
    items: list[PromptRow]
    tokens: dict[str, float]


def check_recipe(recipe: Recipe, policy: Policy, done: Sequence[str] = ()) -> Checked:
    """Reads and tokenises all rows that exist before the run, and asks whether every stage can do what it is told.

    ``policy`` is the recipe's model, or that of a resumed run, whose stages in ``done`` are not looked at again.

    Raises:
        UsageError: one line that names the stage's setting or the row.
    """
    descent, checked = Descent(policy, recipe.stages, done), Checked({}, [], {})
    if recipe.evaluate is not None:
        template = ChatTemplate(policy.tokenizer, policy.virtual_ids)
        checked.items.extend(_check_suite(recipe.evaluate, policy, template, recipe.seed))
    for number, stage in enumerate(recipe.stages):
        if stage.name in done:
            continue
        with _naming(stage):
            _check_names(stage, recipe.stages[:number])
            check_models(recipe, stage, policy, descent)
            found = descent.during(stage)
            template = ChatTemplate(policy.tokenizer, () if found is None else ids_from(policy.model, found.count))
            if stage.kind == "evaluate":
                suite = _check_suite(stage.get(EvaluationSettings), policy, template, recipe.seed)
                checked.rows[stage.name] = list(suite)
            elif named_stage(source_of(stage)) is None:
                rows = checked.rows[stage.name] = read_rows(stage, None, recipe.seed)
                samples = _tokenised(recipe, stage, rows, policy, template)
                checked.tokens[stage.name] = sum(sample.tokens for sample in samples) / len(samples)
            _check_rewards(stage, checked.rows.get(stage.name, []))
        descent.pass_on(stage)
    return checked


@contextlib.contextmanager
def _naming(stage: Stage) -> Iterator[None]:
    """Puts the stage's name before a setting or a part that an error is about; a file's line stays as it is."""
    try:
        yield
    except UsageError as error:
        if error.where in stage.values():
            raise UsageError(f"{stage.name}.{error.where}", error.problem, error.mend) from error
        if error.where in PARTS:
            raise UsageError(f"{stage.name}: {error.where}", error.problem, error.mend) from error
        raise


def _tokenised(
    recipe: Recipe, stage: Stage, rows: list[Row], policy: Policy, template: ChatTemplate
) -> Sequence[Sample]:
    """A stage's rows as it will read them; all of them fit into the model's context."""
    if stage.kind == "data":
        made: DataSettings = stage.get(DataSettings)
        prompts = [row for row in rows if isinstance(row, PromptRow)]
        samples: Sequence[Sample] = [Sample(row.id, template.prompt(row), ()) for row in prompts]
        if made.method != "distillation":  # a teacher's answers need no verifier, and its context is its own
            _check_verifiers(prompts)
            _refuse_beyond_context(policy, rows, samples, made.max_tokens)
        return samples
    samples = prepare(stage, rows, template).samples
    sampled = stage.samples or stage.kind == "distill"
    _refuse_beyond_context(policy, rows, samples, stage.get(SamplingSettings).max_tokens if sampled else 0)
    if HeldOutSettings in stage.settings:
        settings: HeldOutSettings = stage.get(HeldOutSettings)
        split_held_out(rows, settings.held_out, stage_seed(recipe.seed, stage))
        if settings.trusted is not None:
            prepare(stage, load_rows(settings.trusted, stage.rows), template)
    return samples


def _refuse_beyond_context(policy: Policy, rows: Sequence[Row], samples: Sequence[Sample], new: int) -> None:
    """Raises UsageError for a row, or a prompt with the ``new`` tokens of an answer, that the model cannot read."""
    limit = context_limit(policy)
    for row, sample in zip(rows, samples, strict=True):
        length = len(sample.prefix) + max((len(branch.ids) for branch in sample.branches), default=new)
        if limit is None or length <= limit:
            continue
        if sample.branches:
            problem, mend = f"{length} tokens exceed the model's context of {limit}", f"Set max_length to {limit}."
        else:
            problem = f"{length - new} prompt + {new} new tokens exceed the model's context of {limit}"
            mend = "Lower max_tokens, or shorten the prompt."
        raise UsageError(str(row.origin), problem, mend)


def _check_rewards(stage: Stage, rows: Sequence[Row]) -> None:
    """What scores a stage's completions: its rewards, its environment, its judge."""
    if stage.samples:
        check_rewards(stage, [row for row in rows if isinstance(row, PromptRow)])
    if RolloutSettings in stage.settings:
        settings: RolloutSettings = stage.get(RolloutSettings)
        if settings.environment is not None:
            find_environment(settings.environment, settings.reward_time_limit)
    if stage.kind == "evaluate":
        check_combination(stage, [stage.get(EvaluationSettings).judge])


def _check_names(stage: Stage, earlier: Sequence[Stage]) -> None:
    """The stages that a stage names must be there before it and of a kind that can serve; its settings must agree."""
    for key in ("data", "prompts", "teacher", "critic", "judge"):
        _refuse_bare_name(f"{stage.name}.{key}", stage.values().get(key), earlier)
    for name in stage.values().get("rewards") or ():
        _refuse_bare_name(f"{stage.name}.rewards", name, earlier)
    source = named_stage(source_of(stage))
    if source is not None:
        wanted = {kind for one in stage.rows.split(EITHER) for kind in (one, *SERVES_AS.get(one, ()))}
        made = [one for one in earlier if one.kind == "data" and WRITES[one.get(DataSettings).method] in wanted]
        methods = [method for method, kind in WRITES.items() if kind in wanted]
        stages = (
            f"Put a data stage with method: {' or '.join(methods)} before it" if methods else "No stage writes them"
        )
        need = f"It reads {stage.rows} rows. {stages}, or name a file."
        _known(f"{stage.name}.{'prompts' if stage.kind == 'data' else 'data'}", source, made, need)
    for name in judges_of(stage):
        check_judge(f"{stage.name}.{'judge' if stage.kind == 'evaluate' else 'rewards'}", name, earlier)
    critic = stage.values().get("critic")
    if critic is not None and named_stage(critic) is None and not Path(critic).is_dir():
        problem = f"{critic!r} is neither a stage nor a folder"
        raise UsageError(f"{stage.name}.critic", problem, "Name stage:NAME or the folder of a reward model.")
    for key in ("teacher", "critic"):
        named = named_stage(stage.values().get(key))
        if named is not None:
            kinds = ("reward",) if key == "critic" else TRAINS_POLICY
            fitting = [one for one in earlier if one.kind in kinds]
            _known(f"{stage.name}.{key}", named, fitting, f"Put a stage of kind {' or '.join(kinds)} before it.")
    trained = [one for one in earlier if one.kind not in ("data", "evaluate")]
    if stage.start not in (None, BASE):
        policies = [one for one in trained if one.kind != "reward"]
        _known(f"{stage.name}.start", str(stage.start), policies, "Put a stage that trains a policy before it.")
    if StartSettings in stage.settings and stage.get(StartSettings).compute_of is not None:
        if stage.samples or stage.kind == "distill":
            problem = "what a step costs is known only after its completions are sampled"
            raise UsageError(f"{stage.name}.compute_of", problem, "Set steps, and give this stage's name to another.")
        named = stage.get(StartSettings).compute_of
        _known(f"{stage.name}.compute_of", str(named), trained, "Put a stage that trains before it.")


def _known(where: str, name: str, stages: Sequence[Stage], need: str) -> None:
    names = [stage.name for stage in stages]
    if name not in names:
        mend = nearest(name, names) if names else need
        raise UsageError(where, f"no earlier stage {name!r} can serve here", mend)


def _refuse_bare_name(where: str, name: object, earlier: Sequence[Stage]) -> None:
    """Raises UsageError for the name of a stage without stage: before it, which would be taken for a file or model."""
    own = (MAJORITY, VERIFIER, *VERIFIERS)
    if name in [stage.name for stage in earlier] and name not in own and not Path(str(name)).exists():
        problem = f"{name!r} is no file or model here, but a stage"
        raise UsageError(where, problem, f"Write {FROM_STAGE}{name} for what the stage left.")


def _check_suite(settings: EvaluationSettings, policy: Policy, template: ChatTemplate, seed: int) -> list[PromptRow]:
    """The items of an evaluation."""
    rows = load_rows(settings.suite, "prompt", "evaluation", settings.items, seed)
    prompts = [row for row in rows if isinstance(row, PromptRow)]
    _check_verifiers(prompts)
    samples = [Sample(row.id, template.prompt(row), ()) for row in prompts]
    _refuse_beyond_context(policy, prompts, samples, settings.max_tokens)
    return prompts


def _check_verifiers(prompts: Sequence[PromptRow]) -> None:
    with Rewards(None, {}, TIME_LIMIT) as rewards:
        rewards.check(prompts)
