"""What a run carries from stage to stage, what it tells while it goes, and the checks before it starts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trimpot.core.errors import UsageError, nearest
from trimpot.core.findings import Finding
from trimpot.core.rows import PromptRow, Row
from trimpot.core.seeds import seed_for
from trimpot.data.forms import EITHER
from trimpot.data.load import load_rows
from trimpot.data.prepare import MaskSettings, Prepared, tokenise
from trimpot.data.template import ChatTemplate
from trimpot.evaluation.best_of import MAJORITY, VERIFIER
from trimpot.evaluation.run import TIME_LIMIT, EvaluationSettings
from trimpot.models.adapters import TrainableSettings, check_trainable
from trimpot.models.policy import Policy
from trimpot.recipe.judges import check_judge, check_rewards
from trimpot.recipe.names import BASE, TRAINS_POLICY, named_stage
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import DataSettings, HeldOutSettings, RowsSettings, StartSettings
from trimpot.rollout.engine import Progress
from trimpot.rollout.rewards import Rewards
from trimpot.store.run_folder import RunFolder
from trimpot.training.loop import Step
from trimpot.training.settings import LoopSettings

WRITES = {"pairs": "preference pair", "rejection": "chat", "distillation": "chat"}
"""The kind of row that a data stage writes, by its method."""
SERVES_AS = {"feedback": ("preference pair",), "prompt": ("chat",)}
"""Kinds of row that are read as another kind (see ``data.forms``)."""


class Listener(Protocol):
    """Hears of a run's progress: the command line prints it."""

    def stage_begins(self, stage: Stage, done: int, steps: int) -> None: ...

    def step_done(self, stage: Stage, step: Step) -> None: ...

    def alarm(self, stage: Stage, finding: Finding) -> None: ...

    def note(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...


class Silence:
    """A listener that says nothing."""

    def stage_begins(self, stage: Stage, done: int, steps: int) -> None: ...

    def step_done(self, stage: Stage, step: Step) -> None: ...

    def alarm(self, stage: Stage, finding: Finding) -> None: ...

    def note(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...


@dataclass
class Context:
    """A run under way: each training stage changes the policy, everything else stays."""

    recipe: Recipe
    run: RunFolder
    policy: Policy
    evaluation_rows: list[PromptRow]
    rows: dict[str, list[Row]]
    listener: Listener = field(default_factory=Silence)

    @property
    def template(self) -> ChatTemplate:
        """The policy's template; virtual tokens, where it has them, stand before every sequence."""
        return ChatTemplate(self.policy.tokenizer, self.policy.virtual_ids)

    def stage_seed(self, stage: Stage) -> int:
        return seed_for(self.recipe.seed, "stage", stage.name)

    def progress(self, what: str) -> Progress:
        """Tells the listener how far a generation is."""
        return functools.partial(self.listener.progress, what)

    def stage_rows(self, stage: Stage) -> list[Row]:
        """The stage's rows: those read before the run began, or those an earlier stage wrote."""
        return self.rows.get(stage.name) or read_rows(stage, self.run, self.recipe.seed)

    def prepared(self, stage: Stage, rows: Sequence[Row] | None = None) -> Prepared:
        """Rows (by default the stage's own) tokenised under its settings."""
        return prepare(stage, self.stage_rows(stage) if rows is None else rows, self.template)


def prepare(stage: Stage, rows: Sequence[Row], template: ChatTemplate) -> Prepared:
    """Rows tokenised as the stage's settings say."""
    mask = stage.get(MaskSettings).mask if MaskSettings in stage.settings else "assistant"
    return tokenise(rows, template, stage.get(LoopSettings).max_length, mask)


def source_of(stage: Stage) -> str | None:
    """The ``data`` (or ``prompts``) of a stage, None for a stage that reads no rows."""
    if stage.kind == "data":
        return stage.get(DataSettings).prompts
    return stage.get(RowsSettings).data if RowsSettings in stage.settings else None


def read_rows(stage: Stage, run: RunFolder | None, seed: int) -> list[Row]:
    """Reads the rows of a stage from its file, generator, or the folder of an earlier stage."""
    source = source_of(stage)
    if source is None:
        key = "prompts" if stage.kind == "data" else "data"
        raise UsageError(f"{stage.name}.{key}", "is missing", "Name a file, embedded:NAME or stage:NAME.")
    limit = stage.get(DataSettings if stage.kind == "data" else RowsSettings).rows
    split = "pairs" if stage.kind == "data" else "train"
    written = named_stage(source)
    if written is not None:
        assert run is not None
        source = str(run.path / written / "rows.jsonl")
    return load_rows(source, stage.rows, split, limit, seed)


def check_rows(recipe: Recipe, template: ChatTemplate) -> tuple[dict[str, list[Row]], list[PromptRow]]:
    """Reads and tokenises all rows that exist before the run, so that bad ones are named before training starts.

    Returns the rows by stage name and the evaluation items.
    """
    rows: dict[str, list[Row]] = {}
    for number, stage in enumerate(recipe.stages):
        _check_names(stage, recipe.stages[:number], recipe.seed)
        if stage.kind == "evaluate":
            continue
        if named_stage(source_of(stage)) is None:
            rows[stage.name] = read_rows(stage, None, recipe.seed)
            if stage.kind != "data":
                prepare(stage, rows[stage.name], template)
        if HeldOutSettings in stage.settings and stage.get(HeldOutSettings).trusted is not None:
            prepare(stage, load_rows(stage.get(HeldOutSettings).trusted, stage.rows), template)
        if stage.samples:
            prompts = [row for row in rows.get(stage.name, []) if isinstance(row, PromptRow)]
            check_rewards(stage, prompts, recipe.stages[:number])
    return rows, [] if recipe.evaluate is None else suite_rows(
        recipe.evaluate.suite, recipe.evaluate.items, recipe.seed
    )


def _check_names(stage: Stage, earlier: Sequence[Stage], seed: int) -> None:
    """The stages that a stage names must be there before it and of a kind that can serve; its settings must agree."""
    source = named_stage(source_of(stage))
    if source is not None:
        wanted = {kind for one in stage.rows.split(EITHER) for kind in (one, *SERVES_AS.get(one, ()))}
        made = [one for one in earlier if one.kind == "data"]
        _known(f"{stage.name}.data", source, [one for one in made if WRITES[one.get(DataSettings).method] in wanted])
    if stage.kind == "evaluate":
        settings: EvaluationSettings = stage.get(EvaluationSettings)
        if settings.best_of > 1 and settings.judge not in (MAJORITY, VERIFIER):
            check_judge(f"{stage.name}.judge", settings.judge, earlier)
        suite_rows(settings.suite, settings.items, seed)
    if TrainableSettings in stage.settings:
        check_trainable(stage.get(TrainableSettings), reward_model=stage.kind == "reward")
    for key in ("teacher", "critic"):
        named = named_stage(stage.values().get(key))
        if named is not None:
            kinds = ("reward",) if key == "critic" else TRAINS_POLICY
            _known(f"{stage.name}.{key}", named, [one for one in earlier if one.kind in kinds])
    trained = [one for one in earlier if one.kind not in ("data", "evaluate")]
    if stage.start not in (None, BASE):
        _known(f"{stage.name}.start", str(stage.start), [one for one in trained if one.kind != "reward"])
    if StartSettings in stage.settings and stage.get(StartSettings).compute_of is not None:
        if stage.samples or stage.kind == "distill":
            problem = "what a step costs is known only after its completions are sampled"
            raise UsageError(f"{stage.name}.compute_of", problem, "Set steps, and give this stage's name to another.")
        _known(f"{stage.name}.compute_of", stage.get(StartSettings).compute_of, trained)


def _known(where: str, name: str, stages: Sequence[Stage]) -> None:
    names = [stage.name for stage in stages]
    if name not in names:
        mend = nearest(name, names) if names else "Put such a stage before it."
        raise UsageError(where, f"no earlier stage {name!r} can serve here", mend)


def suite_rows(suite: str, items: int, seed: int) -> list[PromptRow]:
    """The items of an evaluation suite."""
    rows = load_rows(suite, "prompt", "evaluation", items, seed)
    prompts = [row for row in rows if isinstance(row, PromptRow)]
    with Rewards(None, {}, TIME_LIMIT) as rewards:
        rewards.check(prompts)
    return prompts
