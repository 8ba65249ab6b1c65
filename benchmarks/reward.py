"""A reward model on pairs: TRL's RewardTrainer and `trimpot run` on the same tokenised pairs.

Both heads begin at zero, so the first loss is ln 2 and the second shows that both took the same step. Operations:
6 × trunk × tokens, tokens of a prompt counted once for its two answers; the head has a single output.
"""

from __future__ import annotations

from typing import Any

from benchmarks import trimpot_side, trl_side
from benchmarks.measure import TRAINED, Gate, column, open_gate, per_step, weights_of
from benchmarks.rows import pair_rows

MAX_LENGTH, LEARNING_RATE = 1024, 1e-4
FULL = {"model": "smollm2-135m", "batch": 4}
QUICK = {"model": "smollm2-135m", "batch": 2}


def run(peer: str, steps: int, model: str, batch: int, gate: Gate = open_gate) -> dict[str, Any]:
    """Pairs per second of every step after the first."""
    records = pair_rows(steps * batch)
    if peer == "trimpot":
        settings = {"steps": steps, "batch": batch, "learning_rate": LEARNING_RATE, "max_length": MAX_LENGTH}
        heard = trimpot_side.train("reward", {**settings, "held_out": 0.0}, records, model, gate)
        clock, lines = heard.clock, heard.lines
        tokens, weights = column(lines, "num_tokens"), weights_of(model)
        rest: dict[str, Any] = {"operations": [weights.operations(TRAINED, one, 0) for one in tokens]}
        work = {"rows": len(records), "tokens": int(sum(tokens))}
    else:
        samples = trimpot_side.drawn("reward", records, batch, model, MAX_LENGTH)
        clock, lines = _trl(trl_side.SETUPS[peer], samples, batch, model, gate)
        rest = {}
        work = {name: count for name, count in trl_side.work_of(samples).items() if name != "targets"}
    return per_step(clock, [batch] * steps, work=work, numbers={"loss": column(lines, "loss")}, **rest)


def _trl(setup: trl_side.Setup, samples: list[Any], batch: int, model: str, gate: Gate) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    from trimpot.models.load import folder_of

    def build(folder: str, callbacks: list[Any]) -> Any:
        config = RewardConfig(
            output_dir=folder,
            max_length=MAX_LENGTH,
            train_sampling_strategy="sequential",
            **trl_side.arguments(setup, len(samples) // batch, batch, LEARNING_RATE),
        )
        path = folder_of(model)
        judge = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, dtype="float32")
        torch.nn.init.zeros_(judge.score.weight)
        tokenizer = AutoTokenizer.from_pretrained(path)
        # The model is read at the last token that is not padding: the end of a turn, which pads by default, must count.
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
        judge.config.pad_token_id = tokenizer.pad_token_id
        rows = Dataset.from_list([_sequences(trl_side.pair_record(sample)) for sample in samples])
        return RewardTrainer(judge, config, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)

    return trl_side.run_trainer(setup, build, gate)


def _sequences(pair: dict[str, list[int]]) -> dict[str, list[int]]:
    """Prompt and answer as one, which is what its trainer takes."""
    return {side: pair["prompt_ids"] + pair[side] for side in ("chosen_ids", "rejected_ids")}
