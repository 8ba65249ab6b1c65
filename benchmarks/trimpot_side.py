"""trimpot's side of the training jobs: a recipe of one stage through ``run_recipe``, as ``trimpot run`` does it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Clock, Gate
from benchmarks.rows import Record, write_rows
from trimpot.recipe.context import Silence
from trimpot.recipe.schema import Stage
from trimpot.training.loop import Step


class Listener(Silence):
    """Hears the run: marks every step, keeps its metrics."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lines: list[Mapping[str, Any]] = []

    def step_done(self, stage: Stage, step: Step) -> None:
        self.clock.tick()
        self.lines.append(step.metrics)


def train(kind: str, settings: Mapping[str, Any], records: Sequence[Record], model: str, gate: Gate) -> Listener:
    """Runs one stage on these rows, in a temporary folder, and returns what was heard of it.

    Warm-up of the learning rate is off, as in TRL's defaults.
    """
    from trimpot.models.allocator import keep_freed_memory
    from trimpot.recipe.read import build_recipe
    from trimpot.recipe.run import run_recipe

    keep_freed_memory()
    listener = Listener(Clock(gate))
    with tempfile.TemporaryDirectory() as folder:
        stage = {
            "data": write_rows(records, Path(folder) / "rows.jsonl"),
            "warmup": 0.0,
            "checkpoint_every": 0,
            **settings,
        }
        recipe = build_recipe({"model": model, "stages": [{kind: stage}]}, f"benchmark {kind}")
        run_recipe(recipe, Path(folder) / "run", listener=listener)
    return listener


def order(kind: str, count: int, batch: int) -> list[int]:
    """The places of ``count`` rows in the order in which a stage of this kind draws them in its first epoch."""
    from trimpot.core.samples import Sample
    from trimpot.core.seeds import seed_for
    from trimpot.data.order import RowSource

    places = RowSource([Sample(str(place), (), ()) for place in range(count)], batch, seed_for(0, "stage", kind))
    return [int(one.row_id) for step in range(count // batch) for one in places.draw(step)]


def tokenised(records: Sequence[Record], model: str, max_length: int) -> list[Any]:
    """The rows as trimpot's samples: what a peer is given, so that ids and loss masks are equal."""
    from transformers import AutoTokenizer

    from trimpot.data.load import load_rows
    from trimpot.data.prepare import tokenise
    from trimpot.data.template import ChatTemplate
    from trimpot.models.load import folder_of

    template = ChatTemplate(AutoTokenizer.from_pretrained(folder_of(model)))
    with tempfile.TemporaryDirectory() as folder:
        rows = load_rows(write_rows(records, Path(folder) / "rows.jsonl"))
    return list(tokenise(rows, template, max_length).samples)


def drawn(kind: str, records: Sequence[Record], batch: int, model: str, max_length: int) -> list[Any]:
    """The rows as samples in the order in which ``train`` draws them."""
    samples = tokenised(records, model, max_length)
    return [samples[place] for place in order(kind, len(records), batch)]
