"""Short real runs of TRL's trainers on a tiny model, for the trainer_state.json they leave.

Usage: python -m tests.doctor.trl_runs   writes the fixtures anew into tests/doctor/data.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
STEPS = 12
HUGE_RATE = 30.0
DROPPED = ("stateful_callbacks",)
"""Parts of a trainer_state.json that name nothing the doctor reads."""


def _settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "save_steps": STEPS,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "seed": 0,
        "disable_tqdm": True,
        **changes,
    }


def _model(start: Path | None = None) -> tuple[Any, Any]:
    """A plain transformers model with random weights, or those of a checkpoint, and its tokenizer."""
    from transformers import AutoModelForCausalLM, set_seed

    from trimpot.models.tiny import tiny

    policy = tiny("0.1m")
    config = policy.model.config
    config._attn_implementation = "sdpa"
    set_seed(0)
    if start is not None:
        return AutoModelForCausalLM.from_pretrained(start), policy.tokenizer
    return AutoModelForCausalLM.from_config(config), policy.tokenizer


def _words(number: int) -> tuple[str, str]:
    word = "".join(chr(97 + (number * step) % 26) for step in (3, 7, 11, 19))
    return f"Write {word} backwards.", word[::-1]


def sft(folder: Path, **changes: Any) -> Path:
    """Supervised fine-tuning on 48 rows; the folder of its last checkpoint."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = _model()
    pairs = [_words(number) for number in range(1, 49)]
    rows = Dataset.from_list([{"prompt": prompt, "completion": answer} for prompt, answer in pairs])
    settings = _settings(folder, **{"learning_rate": 1e-3, **changes})
    trainer = SFTTrainer(model, args=SFTConfig(**settings), train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return folder / f"checkpoint-{STEPS}"


def dpo(folder: Path, start: Path | None = None, **changes: Any) -> Path:
    """DPO on 48 pairs from a random model, which is its reference too; the folder of its last checkpoint.

    With ``start`` the policy is that checkpoint and the reference is still the random model: a wrong one.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    reference, _ = _model()
    model, tokenizer = _model(start)
    pairs = [_words(number) for number in range(1, 49)]
    rows = Dataset.from_list(
        [{"prompt": prompt, "chosen": answer, "rejected": answer[::-1]} for prompt, answer in pairs]
    )
    settings = _settings(folder, **{"learning_rate": 1e-3, **changes})
    trainer = DPOTrainer(model, reference, args=DPOConfig(**settings), train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return folder / f"checkpoint-{STEPS}"


def main() -> None:
    """Writes the fixtures."""
    runs = {
        "trl_sft": lambda folder: sft(folder),
        "trl_sft_diverging": lambda folder: sft(folder, learning_rate=HUGE_RATE, max_grad_norm=1e9),
        "trl_dpo": lambda folder: dpo(folder),
        "trl_dpo_wrong_reference": lambda folder: dpo(folder, sft(folder / "sft")),
    }
    for name, make in runs.items():
        folder = Path(tempfile.mkdtemp())
        try:
            state = json.loads((make(folder) / "trainer_state.json").read_text())
        finally:
            shutil.rmtree(folder)
        kept = {key: value for key, value in state.items() if key not in DROPPED}
        target = DATA / name / "trainer_state.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"{target}: {len(kept['log_history'])} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
