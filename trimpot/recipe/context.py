"""What a run carries from stage to stage, and what it tells while it goes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trimpot.core.errors import UsageError
from trimpot.core.findings import Finding
from trimpot.core.progress import Progress
from trimpot.core.rows import PromptRow, Row
from trimpot.core.seeds import seed_for
from trimpot.data.load import load_rows
from trimpot.data.prepare import MaskSettings, Prepared, tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.policy import Policy
from trimpot.recipe.names import named_stage
from trimpot.recipe.read import Recipe
from trimpot.recipe.schema import Stage
from trimpot.recipe.settings import DataSettings, RowsSettings
from trimpot.store.run_folder import RunFolder
from trimpot.training.loop import Step
from trimpot.training.settings import LoopSettings


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
        return stage_seed(self.recipe.seed, stage)

    def progress(self, what: str) -> Progress:
        """Tells the listener how far a generation is."""
        return functools.partial(self.listener.progress, what)

    def stage_rows(self, stage: Stage) -> list[Row]:
        """The stage's rows: those read before the run began, or those an earlier stage wrote."""
        return self.rows.get(stage.name) or read_rows(stage, self.run, self.recipe.seed)

    def prompts(self, stage: Stage) -> list[PromptRow]:
        """The stage's rows that are prompts to be answered."""
        return [row for row in self.stage_rows(stage) if isinstance(row, PromptRow)]

    def prepared(self, stage: Stage, rows: Sequence[Row] | None = None) -> Prepared:
        """Rows (by default the stage's own) tokenised under its settings."""
        return prepare(stage, self.stage_rows(stage) if rows is None else rows, self.template)


def stage_seed(seed: int, stage: Stage) -> int:
    """The seed of a stage in a run of this seed."""
    return seed_for(seed, "stage", stage.name)


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
