"""TRL's side of the training jobs: its defaults with the settings that its documentation names for a CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Clock, Gate


@dataclass(frozen=True)
class Setup:
    """How TRL runs: gradient checkpointing is its default, keeping freed memory is what trimpot sets (mallopt)."""

    checkpointing: bool = True
    keep_memory: bool = False


SETUPS = {
    "trl": Setup(),
    "trl, same allocator": Setup(keep_memory=True),
    "trl, same allocator, no checkpointing": Setup(checkpointing=False, keep_memory=True),
}
"""Peer -> how TRL runs."""


def arguments(setup: Setup, steps: int, batch: int, learning_rate: float) -> dict[str, Any]:
    """The fields of a TRL configuration that all jobs have.

    fp32, as its default bf16 is slower on a processor without matrix units for it; rows in the given order.
    """
    return {
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": learning_rate,
        "gradient_checkpointing": setup.checkpointing,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def run_trainer(
    setup: Setup, build: Callable[[str, list[Any]], Any], gate: Gate
) -> tuple[Clock, list[Mapping[str, Any]]]:
    """Trains with the trainer that ``build`` makes of an output folder and callbacks; its clock and its log lines."""
    from transformers import TrainerCallback

    from trimpot.models.allocator import keep_freed_memory

    clock = Clock(gate)

    class Ticks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    if setup.keep_memory and not keep_freed_memory():
        raise RuntimeError("this C library has no mallopt: there is no same allocator to compare with")
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(folder, [Ticks()])
        trainer.train()
    return clock, [line for line in trainer.state.log_history if "loss" in line]


def model_and_tokenizer(model: str) -> tuple[Any, Any]:
    """The model in fp32 and its tokenizer, as TRL would load them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trimpot.models.load import folder_of

    folder = folder_of(model)
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), AutoTokenizer.from_pretrained(folder)


def chat_record(sample: Any) -> dict[str, list[int]]:
    """A chat sample as TRL's SFT trainer takes rows that are tokenised already."""
    (branch,) = sample.branches
    return {"input_ids": list(branch.ids), "completion_mask": [int(flag) for flag in branch.supervised]}


def pair_record(sample: Any) -> dict[str, list[int]]:
    """A pair as TRL's DPO and reward trainers take pairs that are tokenised already."""
    chosen, rejected = sample.branches
    return {"prompt_ids": list(sample.prefix), "chosen_ids": list(chosen.ids), "rejected_ids": list(rejected.ids)}


def work_of(samples: Sequence[Any]) -> dict[str, int]:
    """Counts that both sides must agree on; tokens of a prompt count once."""
    return {
        "rows": len(samples),
        "tokens": sum(sample.tokens for sample in samples),
        "targets": sum(sample.targets for sample in samples),
    }
