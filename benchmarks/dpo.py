"""Direct preference optimisation: TRL's DPOTrainer and `trimpot run` on the same tokenised pairs.

Both take the reference's log-probs of every row once in one epoch: TRL in the step that trains on the row (its
default; precomputing is off), trimpot before the first step. That pass is counted for trimpot, to every step the part
of its rows, and its cache on disk is empty. Operations: 6 × trunk × tokens + 6 × head × targets for training, 2 × the
same for the reference; tokens of a prompt count once for its two answers.
"""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import patch

from benchmarks import trimpot_side, trl_side
from benchmarks.measure import SCORED, TRAINED, Gate, column, open_gate, per_step, weights_of
from benchmarks.rows import pair_rows

MAX_LENGTH, LEARNING_RATE = 1024, 1e-6
FULL = {"model": "smollm2-135m", "batch": 4}
QUICK = {"model": "smollm2-135m", "batch": 2}


def run(peer: str, steps: int, model: str, batch: int, gate: Gate = open_gate) -> dict[str, Any]:
    """Pairs per second of every step after the first."""
    records = pair_rows(steps * batch)
    if peer == "trimpot":
        settings = {"steps": steps, "batch": batch, "learning_rate": LEARNING_RATE, "max_length": MAX_LENGTH}
        heard, seconds = _timed_reference(settings, records, model, gate)
        clock, lines = heard.clock, heard.lines
        tokens, targets = column(lines, "num_tokens"), column(lines, "num_target_tokens")
        weights, pairs = weights_of(model), zip(tokens, targets, strict=True)
        rest: dict[str, Any] = {"operations": [weights.operations(TRAINED + SCORED, *pair) for pair in pairs]}
        rest["further_seconds"] = seconds / steps
        work = {"rows": len(records), "tokens": int(sum(tokens)), "targets": int(sum(targets))}
    else:
        samples = trimpot_side.drawn("preference", records, batch, model, MAX_LENGTH)
        clock, lines = _trl(trl_side.SETUPS[peer], samples, batch, model, gate)
        rest, work = {}, trl_side.work_of(samples)
    numbers = {name: column(lines, name) for name in ("loss", "logps/chosen", "logps/rejected")}
    return per_step(clock, [batch] * steps, work=work, numbers=numbers, **rest)


def _timed_reference(
    settings: dict[str, Any], records: list[Any], model: str, gate: Gate
) -> tuple[trimpot_side.Listener, float]:
    """The run, and the seconds that the reference's pass over all rows took."""
    from trimpot.training.reference import RowReference

    fill, seconds = RowReference.fill, 0.0

    def timed_fill(*arguments: Any, **named: Any) -> None:
        nonlocal seconds
        began = time.perf_counter()
        fill(*arguments, **named)
        seconds += time.perf_counter() - began

    with patch.object(RowReference, "fill", timed_fill):
        heard = trimpot_side.train("preference", {"objective": "dpo", **settings}, records, model, gate)
    if seconds == 0.0:
        raise RuntimeError("the reference was never filled: this benchmark no longer times what it says")
    return heard, seconds


def _trl(setup: trl_side.Setup, samples: list[Any], batch: int, model: str, gate: Gate) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    def build(folder: str, callbacks: list[Any]) -> Any:
        config = DPOConfig(
            output_dir=folder,
            max_length=MAX_LENGTH,
            train_sampling_strategy="sequential",
            **trl_side.arguments(setup, len(samples) // batch, batch, LEARNING_RATE),
        )
        trained, tokenizer = trl_side.model_and_tokenizer(model)
        rows = Dataset.from_list([trl_side.pair_record(sample) for sample in samples])
        # The rows have the columns that its own preparation ends with; the trainer has no switch to leave it out.
        with patch.object(DPOTrainer, "_prepare_dataset", lambda _trainer, dataset, *_: dataset):
            return DPOTrainer(trained, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)

    return trl_side.run_trainer(setup, build, gate)
