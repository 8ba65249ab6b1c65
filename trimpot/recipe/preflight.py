"""The checks before a run: every stage is built as it will train, and handed to trimpot.preflight."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.core.progress import Progress, ignore
from trimpot.core.rows import Row
from trimpot.core.samples import Draw
from trimpot.data.prepare import MaskSettings, Prepared, split_held_out
from trimpot.data.template import ChatTemplate
from trimpot.models.adapters import TrainableSettings, choose_trainable
from trimpot.models.load import load
from trimpot.models.policy import Policy
from trimpot.preflight.check import NOT_APPLICABLE, Built, Check, Memory, Result
from trimpot.preflight.names import CHECK_IDS
from trimpot.preflight.run import run_checks
from trimpot.preflight.table import chosen
from trimpot.recipe.checks import Checked, check_recipe
from trimpot.recipe.context import Context, prepare, stage_seed
from trimpot.recipe.jobs import build_job
from trimpot.recipe.names import FROM_STAGE
from trimpot.recipe.peak_memory import measured_peak
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import HeldOutSettings, StartSettings
from trimpot.rollout.sampling import SamplingSettings
from trimpot.store.run_folder import RunFolder
from trimpot.training.loop import Plan
from trimpot.training.reference import RowReference
from trimpot.training.rows import DatasetSource
from trimpot.training.settings import LoopSettings, OptimizerSettings

SCRATCH = "tiny-"
"""Opens the names of models with random weights."""
ALL = "all checks"
"""What a stage's only line names when it cannot be built before the run."""


class PreflightError(UsageError):
    """Checks before a run have failed: one line for each, with the name to skip it by."""

    def __init__(self, failed: Sequence[Result]) -> None:
        self.failed = tuple(failed)
        first = failed[0]
        super().__init__(f"{first.stage}.{first.check}", first.text, first.mend)

    def __str__(self) -> str:
        return "\n".join(
            f"{one.line()} To run all the same: --set 'preflight.skip=[{one.check}]'." for one in self.failed
        )


@dataclass(frozen=True)
class Preflight:
    """Which checks are made of which stages. ``only``: those checks and no others; ``stage``: that stage alone."""

    thorough: bool = False
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    stage: str | None = None
    progress: Progress = ignore

    def checks(self) -> tuple[Check, ...]:
        """The checks in their order."""
        return chosen(self.thorough, self.skip, self.only)


def refuse_failed(results: Sequence[Result]) -> None:
    """Raises PreflightError when a check has failed."""
    failed = [one for one in results if one.failed]
    if failed:
        raise PreflightError(failed)


def preflight(recipe: Recipe, asked: Preflight) -> list[Result]:
    """Loads the recipe's model, makes the checks of a dry run, then those asked for of every stage.

    Raises:
        UsageError: bad input, as a run would name it; no such stage.
    """
    policy = load(recipe.model, recipe.device, recipe.dtype, recipe.seed)
    checked = check_recipe(recipe, policy)
    del policy  # every stage is checked on a model of its own
    return preflight_stages(recipe, checked, asked)


def preflight_stages(recipe: Recipe, checked: Checked, asked: Preflight) -> list[Result]:
    """The checks of the recipe's training stages, whose rows were read.

    A stage is built on the recipe's own model, whichever it will begin with. One that needs what an earlier stage makes
    cannot be built yet: it has one line that says so, and its rows are checked when it begins (``preflight_rows``).
    Checks of the model are made once for all stages that train the same part of it.
    """
    stages = [stage for stage in recipe.stages if StartSettings in stage.settings]
    names = [stage.name for stage in stages]
    if asked.stage is not None and asked.stage not in names:
        mend = nearest(asked.stage, names) if names else "The recipe trains nothing."
        raise UsageError("--stage", f"there is no stage {asked.stage!r} that trains", mend)
    stages = [stage for stage in stages if asked.stage in (None, stage.name)]
    stated = _stated_memory(recipe, asked)
    results: list[Result] = []
    seen: dict[object, str] = {}
    for number, stage in enumerate(stages):
        needed = waits_for(stage)
        if needed is not None:
            text = f"needs what the stage {needed} makes; its rows are checked when it begins"
            results.append(Result(stage.name, ALL, NOT_APPLICABLE, None, text, "", "", 0.0))
            continue
        key = (stage.kind == "reward", stage.get(TrainableSettings))
        checks = asked.checks()
        known = [one for one in checks if one.of_model and key in seen]
        with built_for(recipe, stage, checked, asked.thorough, stated.get(stage.name)) as built:
            found = run_checks(built, [one for one in checks if one not in known], _part(asked, number, len(stages)))
        found = (*found, *(_as_in(stage, one, seen[key]) for one in known))
        results += sorted(found, key=lambda one: CHECK_IDS.index(one.check))
        seen.setdefault(key, stage.name)
    return results


def _part(asked: Preflight, number: int, stages: int) -> Progress:
    """The progress of one stage's checks as a part of all stages'."""
    return lambda done, total: asked.progress(number * total + done, stages * total)


def preflight_rows(context: Context, stage: Stage) -> list[Result]:
    """The checks of rows that an earlier stage wrote, made when the stage that trains on them begins."""
    if waits_for(stage) is None:
        return []
    rows, held_out, prepared = _prepared(context, stage)
    built = Built(
        stage.name, stage.kind, rows, prepared.samples, context.template, evaluation=_evaluation(context, held_out),
        mask=_mask(stage), truncated_rows=prepared.truncated_rows, sampling=_sampling(stage),
    )  # fmt: skip
    checks = [one for one in chosen(False, context.recipe.preflight.skip) if one.rows_only]
    return list(run_checks(built, checks))


def waits_for(stage: Stage) -> str | None:
    """The earlier stage whose rows or model this one cannot be built without; None: there is none.

    The model that it begins with is not meant: another serves for the checks.
    """
    for value in stage.values().values():
        names = [value] if isinstance(value, str) else list(value) if isinstance(value, Mapping) else []
        for name in names:
            if FROM_STAGE in str(name):
                return str(name).split(FROM_STAGE)[1].partition("+")[0]
    return None


@contextlib.contextmanager
def built_for(
    recipe: Recipe, stage: Stage, checked: Checked, thorough: bool, memory: Memory | None = None
) -> Iterator[Built]:
    """Within it a stage is built as a run would build it, on a model that nobody else holds.

    A preference stage's reference is computed as it is asked for, not for all rows, and kept nowhere. Of a stage that
    samples its rows only the policy is built, unless ``thorough``.
    """
    policy = load(recipe.model, recipe.device, recipe.dtype, recipe.seed)
    # There is no run yet: what would be read from its folder is named stage:NAME, and such stages are not built.
    context = Context(recipe, RunFolder(Path("runs")), policy, checked.items, checked.rows)
    # How long a stage goes on may follow from another's compute; a few steps do not ask.
    stage = replace(stage, settings={**stage.settings, StartSettings: StartSettings()})
    with contextlib.ExitStack() as stack:
        parts = _parts(context, stage, thorough, stack)
        rows, held_out, prepared = _prepared(context, stage)
        yield Built(
            stage.name, stage.kind, rows, prepared.samples, context.template,
            evaluation=_evaluation(context, held_out), mask=_mask(stage), truncated_rows=prepared.truncated_rows,
            scratch=recipe.model.startswith(SCRATCH), trainable=stage.get(TrainableSettings).trainable,
            sampling=_sampling(stage), memory=memory, seed=_seed(context, stage), **parts,
        )  # fmt: skip


def _parts(context: Context, stage: Stage, thorough: bool, stack: contextlib.ExitStack) -> dict[str, Any]:
    """What trains, by what plan, and for a stage that samples how a draw is made."""
    loop, optimizer = stage.get(LoopSettings), stage.get(OptimizerSettings)
    sampling = _sampling(stage)
    if sampling is not None and not thorough:
        choose_trainable(context.policy, stage.get(TrainableSettings), _seed(context, stage))
        nothing = Plan(stage.objective, _Nothing(), loop, optimizer, None, sampling.temperature or 1.0)
        return {"trainee": context.policy, "plan": nothing}
    if stage.kind == "preference" and sampling is None:
        return _preference_parts(context, stage)
    job = stack.enter_context(contextlib.closing(build_job(context, stage)))
    drawn = None if sampling is None else functools.partial(job.plan.source.draw, 1, {})
    return {"trainee": job.trainee, "plan": job.plan, "factors": job.factors, "drawn": drawn}


def _preference_parts(context: Context, stage: Stage) -> dict[str, Any]:
    policy: Policy = context.policy
    choose_trainable(policy, stage.get(TrainableSettings), _seed(context, stage))
    loop: LoopSettings = stage.get(LoopSettings)
    source = DatasetSource(context.prepared(stage).samples, loop.batch, _seed(context, stage))
    reference = RowReference(policy) if "reference_logprob_N" in stage.objective.needs else None
    return {"trainee": policy, "plan": Plan(stage.objective, source, loop, stage.get(OptimizerSettings), reference)}


@dataclass(frozen=True)
class _Nothing:
    """The source of a stage that samples its rows, where none are to be sampled."""

    steps_per_draw: int = 1

    def draw(self, step: int, carried: Mapping[str, float]) -> Draw:
        return Draw(())


def _prepared(context: Context, stage: Stage) -> tuple[list[Row], list[Row], Prepared]:
    """The rows that are trained on, those that are held out, and the former tokenised."""
    rows: list[Row] = context.stage_rows(stage)
    held_out: list[Row] = []
    if HeldOutSettings in stage.settings:
        rows, held_out = split_held_out(rows, stage.get(HeldOutSettings).held_out, _seed(context, stage))
    policy = context.policy
    return rows, held_out, prepare(stage, rows, ChatTemplate(policy.tokenizer, policy.virtual_ids))


def _evaluation(context: Context, held_out: Sequence[Row]) -> list[Row]:
    """Rows that no stage may train on."""
    suites = [one.name for one in context.recipe.stages if one.kind == "evaluate"]
    return [*context.evaluation_rows, *held_out, *(row for name in suites for row in context.rows.get(name, ()))]


def _sampling(stage: Stage) -> SamplingSettings | None:
    """How the stage samples what it trains on; None: it trains on rows."""
    settings: SamplingSettings | None = stage.settings.get(SamplingSettings)
    return settings if stage.samples or stage.kind == "distill" else None


def _mask(stage: Stage) -> str:
    mask: str = stage.get(MaskSettings).mask if MaskSettings in stage.settings else "assistant"
    return mask


def _seed(context: Context, stage: Stage) -> int:
    return stage_seed(context.recipe.seed, stage)


def _as_in(stage: Stage, check: Check, other: str) -> Result:
    text = f"the same model as in {other}, where this is checked"
    return Result(stage.name, check.id, NOT_APPLICABLE, None, text, check.rule, check.mend, 0.0)


def _stated_memory(recipe: Recipe, asked: Preflight) -> dict[str, Memory]:
    """What the dry run states for each stage, and the way to measure it."""
    if "memory_estimate" not in {check.id for check in asked.checks()}:
        return {}
    from trimpot.recipe.dry_run import estimate

    return {
        one.name: Memory(one.memory_bytes, functools.partial(measured_peak, recipe, one.name))
        for one in estimate(recipe)
    }
