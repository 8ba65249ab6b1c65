"""What a run carries from stage to stage, what it tells while it goes, and the checks before it starts."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Protocol

from trimpot.core.errors import UsageError, nearest
from trimpot.core.findings import Finding
from trimpot.core.rows import PromptRow, Row
from trimpot.core.seeds import seed_for
from trimpot.data.load import load_rows
from trimpot.data.prepare import Prepared, tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import ROW_KINDS, PairSettings, RowsSettings, Stage
from trimpot.rollout.engine import Progress
from trimpot.rollout.source import GroupSettings
from trimpot.rollout.verifiers import find_verifier
from trimpot.store.run_folder import RunFolder
from trimpot.training.loop import Step
from trimpot.training.settings import LoopSettings

FROM_STAGE = "stage:"


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
    template: ChatTemplate
    evaluation_rows: list[PromptRow]
    rows: dict[str, list[Row]]
    listener: Listener = field(default_factory=Silence)

    def stage_seed(self, stage: Stage) -> int:
        return seed_for(self.recipe.seed, "stage", stage.name)

    def progress(self, what: str) -> Progress:
        """Tells the listener how far a generation is."""
        return functools.partial(self.listener.progress, what)

    def prepared(self, stage: Stage) -> Prepared:
        """The stage's rows, tokenised: those read before the run began, or those an earlier stage wrote."""
        rows = self.rows.get(stage.name) or read_rows(stage, self.run, self.recipe.seed)
        return tokenise(rows, self.template, stage.get(LoopSettings).max_length)


def source_of(stage: Stage) -> str | None:
    """The ``data`` (or ``prompts``) of a stage, None for a stage that reads no rows."""
    if stage.kind == "data":
        return stage.get(PairSettings).prompts
    return stage.get(RowsSettings).data if RowsSettings in stage.settings else None


def read_rows(stage: Stage, run: RunFolder | None, seed: int) -> list[Row]:
    """Reads the rows of a stage from its file, generator, or the folder of an earlier stage."""
    source = source_of(stage)
    key = "prompts" if stage.kind == "data" else "data"
    if source is None:
        raise UsageError(f"{stage.name}.{key}", "is missing", "Name a file, embedded:NAME or stage:NAME.")
    limit = stage.get(PairSettings if stage.kind == "data" else RowsSettings).rows
    split = "pairs" if stage.kind == "data" else "train"
    if source.startswith(FROM_STAGE):
        assert run is not None
        source = str(run.path / source.removeprefix(FROM_STAGE) / "rows.jsonl")
    return load_rows(source, ROW_KINDS.get(stage.kind, "prompt"), split, limit, seed)


def check_rows(recipe: Recipe, template: ChatTemplate) -> tuple[dict[str, list[Row]], list[PromptRow]]:
    """Reads and tokenises all rows that exist before the run, so that bad ones are named before training starts.

    Returns the rows by stage name and the evaluation items.
    """
    rows: dict[str, list[Row]] = {}
    for number, stage in enumerate(recipe.stages):
        source = source_of(stage)
        if source is not None and source.startswith(FROM_STAGE):
            earlier = [other.name for other in recipe.stages[:number] if other.kind == "data"]
            wanted = source.removeprefix(FROM_STAGE)
            if wanted not in earlier:
                mend = nearest(wanted, earlier) if earlier else "Put a data stage before it."
                raise UsageError(f"{stage.name}.data", f"no earlier stage {wanted!r} writes rows", mend)
        elif stage.kind != "evaluate":
            rows[stage.name] = read_rows(stage, None, recipe.seed)
            if stage.kind != "data":
                tokenise(rows[stage.name], template, stage.get(LoopSettings).max_length)
        if stage.kind == "policy_gradient":
            for name in {stage.get(GroupSettings).reward or _verifier(row) for row in rows.get(stage.name, [])}:
                find_verifier(name)
    return rows, [] if recipe.evaluate is None else suite_rows(
        recipe.evaluate.suite, recipe.evaluate.items, recipe.seed
    )


def suite_rows(suite: str, items: int, seed: int) -> list[PromptRow]:
    """The items of an evaluation suite."""
    rows = load_rows(suite, "prompt", "evaluation", items, seed)
    prompts = [row for row in rows if isinstance(row, PromptRow)]
    for name in {row.verifier for row in prompts}:
        find_verifier(name)
    return prompts


def _verifier(row: Row) -> str:
    assert isinstance(row, PromptRow)
    return row.verifier
