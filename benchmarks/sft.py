"""Supervised fine-tuning of all weights: TRL's SFTTrainer and `trimpot run` on equal tokens and equal loss masks.

Rows are tokenised once, by trimpot; TRL gets the same ids and the same completion mask in the same order. Tokens are
those of the rows, padding not counted. Operations: 6 × trunk weights × tokens + 6 × head weights × targets.
"""

from __future__ import annotations

from typing import Any

from benchmarks import trimpot_side, trl_side
from benchmarks.measure import TRAINED, Gate, column, open_gate, per_step, weights_of
from benchmarks.rows import chat_rows

LEARNING_RATE = 2e-5
FULL = {"model": "smollm2-135m", "batch": 8, "max_length": 512}
QUICK = {"model": "smollm2-135m", "batch": 2, "max_length": 512}


def run(peer: str, steps: int, model: str, batch: int, max_length: int, gate: Gate = open_gate) -> dict[str, Any]:
    """Tokens per second of every step after the first."""
    records = chat_rows(steps * batch)
    if peer == "trimpot":
        settings = {"steps": steps, "batch": batch, "learning_rate": LEARNING_RATE, "max_length": max_length}
        heard = trimpot_side.train("sft", settings, records, model, gate)
        clock, lines = heard.clock, heard.lines
        tokens, targets = column(lines, "num_tokens"), column(lines, "num_target_tokens")
        weights = weights_of(model)
        pairs = zip(tokens, targets, strict=True)
        rest: dict[str, Any] = {"operations": [weights.operations(TRAINED, *pair) for pair in pairs]}
        work = {"rows": len(records), "tokens": int(sum(tokens)), "targets": int(sum(targets))}
    else:
        samples = trimpot_side.drawn("sft", records, batch, model, max_length)
        clock, lines = _trl(trl_side.SETUPS[peer], samples, {"batch": batch, "max_length": max_length}, model, gate)
        rest, work = {}, trl_side.work_of(samples)
        tokens = [sum(one.tokens for one in samples[at : at + batch]) for at in range(0, len(samples), batch)]
    return per_step(clock, tokens, work=work, numbers={"loss": column(lines, "loss")}, **rest)


def _trl(setup: trl_side.Setup, samples: list[Any], sizes: dict[str, int], model: str, gate: Gate) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    def build(folder: str, callbacks: list[Any]) -> Any:
        config = SFTConfig(
            output_dir=folder,
            max_length=sizes["max_length"],
            # Rows that are tokenised already do not switch it on by themselves.
            completion_only_loss=True,
            train_sampling_strategy="sequential",
            **trl_side.arguments(setup, len(samples) // sizes["batch"], sizes["batch"], LEARNING_RATE),
        )
        trained, tokenizer = trl_side.model_and_tokenizer(model)
        rows = Dataset.from_list([trl_side.chat_record(sample) for sample in samples])
        return SFTTrainer(trained, config, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)

    return trl_side.run_trainer(setup, build, gate)
