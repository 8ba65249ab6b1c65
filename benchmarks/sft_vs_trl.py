"""SFT of SmolLM2-135M: TRL and trimpot in turn, each in a process of its own, on the same rows, batches and steps.

    .venv/bin/python benchmarks/sft_vs_trl.py [--repeats 3] [--steps 5] [--json]

Both train all weights in fp32 with AdamW on pre-tokenised prompt/completion rows with the same completion mask, in the
same order; the losses of the first step must agree. TRL runs twice: with its default activation checkpointing, and
without, which is faster and takes more memory. Tokens are those of the rows, padding not counted; the first two steps
are a warm-up (each process touches its memory for the first time) and not timed. Peak memory is the child's maximum
resident set.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH, MAX_LENGTH, LEARNING_RATE, WARMUP = 8, 512, 2e-5, 2
PEERS = ("trl", "trl without checkpointing", "trimpot")


def build_rows(steps: int) -> list[dict[str, list[int]]]:
    """Python's own documentation (pydoc_data): the first half of a passage is the prompt, the second the completion.

    60 to 512 tokens a row, about half of them supervised, as in question answering over a given text.
    """
    from pydoc_data.topics import topics

    from transformers import AutoTokenizer

    from trimpot.core.rows import ChatRow, Message
    from trimpot.data.template import ChatTemplate
    from trimpot.models.embedded import embedded_folder

    template = ChatTemplate(AutoTokenizer.from_pretrained(embedded_folder()))
    rows = []
    for number, (name, text) in enumerate(sorted(topics.items())):
        words = " ".join(text.split())[: 200 + 211 * (number % 9)].split()
        half = len(words) // 2
        prompt = f"Continue this text on Python's {name}: {' '.join(words[:half])}"
        row = ChatRow((Message("user", prompt), Message("assistant", " ".join(words[half:]))))
        (branch,) = template.chat(row, MAX_LENGTH).sample.branches
        rows.append({"input_ids": list(branch.ids), "completion_mask": [int(flag) for flag in branch.supervised]})
    # Every completion as one suffix, as TRL's completion mask has it; and as many rows as the steps want.
    return [rows[i % len(rows)] for i in range(BATCH * steps)]


def run_trl(rows: list[dict[str, list[int]]], steps: int, checkpointing: bool) -> dict[str, Any]:
    """TRL's SFTTrainer; fp32 as its default bf16 is slower on this kind of processor."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from trimpot.models.embedded import embedded_folder

    class Clock(TrainerCallback):
        marks: list[float] = []  # noqa: RUF012

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            max_length=MAX_LENGTH,
            # Rows that are tokenised already do not switch it on by themselves.
            completion_only_loss=True,
            gradient_checkpointing=checkpointing,
            train_sampling_strategy="sequential",
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        path = embedded_folder()
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(path, dtype="float32"),
            config,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(path),
            callbacks=[Clock()],
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"marks": Clock.marks, "losses": losses}


def run_trimpot(rows: list[dict[str, list[int]]], steps: int) -> dict[str, Any]:
    """trimpot's loop with the settings that TRL runs with."""
    from trimpot.core.samples import Branch, Draw, Sample
    from trimpot.models.adapters import TrainableSettings, choose_trainable
    from trimpot.models.allocator import keep_freed_memory
    from trimpot.models.load import load
    from trimpot.objectives import OBJECTIVES
    from trimpot.training.loop import Plan, TrainState, train
    from trimpot.training.settings import LoopSettings, OptimizerSettings

    class InOrder:
        def draw(self, step: int, policy: Any) -> Draw:
            part = rows[(step - 1) * BATCH : step * BATCH]
            return Draw(
                tuple(
                    Sample(str(i), (), (Branch(tuple(row["input_ids"]), tuple(map(bool, row["completion_mask"]))),))
                    for i, row in enumerate(part)
                )
            )

    keep_freed_memory()
    policy = load("smollm2-135m")
    choose_trainable(policy, TrainableSettings())
    optimizer = OptimizerSettings(learning_rate=LEARNING_RATE, warmup=0.0)
    # Small micro-batches hold few activations; the gradient is the same however a step is cut.
    plan = Plan(OBJECTIVES["sft"](), InOrder(), LoopSettings(steps=steps, micro_batch_tokens=448), optimizer)
    marks, losses = [], []
    for step in train(TrainState.new(policy, optimizer), plan):
        marks.append(time.perf_counter())
        losses.append(step.metrics["loss"])
    return {"marks": marks, "losses": losses}


def child(peer: str, rows_file: str, steps: int) -> None:
    rows = json.loads(Path(rows_file).read_text())
    result = run_trimpot(rows, steps) if peer == "trimpot" else run_trl(rows, steps, checkpointing=peer == "trl")
    tokens = sum(len(row["input_ids"]) for row in rows[BATCH * WARMUP :])
    seconds = result["marks"][-1] - result["marks"][WARMUP - 1]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("RESULT", json.dumps({"tokens_per_second": tokens / seconds, "memory": memory, "losses": result["losses"]}))


def measure(peer: str, rows_file: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", peer, "--rows", rows_file, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(lines[0].removeprefix("RESULT ")))


def main() -> None:
    parser = argparse.ArgumentParser(description="SFT: TRL and trimpot in turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.rows, arguments.steps)
        return
    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in PEERS}
    with tempfile.TemporaryDirectory() as folder:
        rows_file = Path(folder) / "rows.json"
        rows = build_rows(arguments.steps)
        rows_file.write_text(json.dumps(rows))
        for repeat in range(arguments.repeats):
            for peer in PEERS:
                result = measure(peer, str(rows_file), arguments.steps)
                runs[peer].append(result)
                speed, memory = result["tokens_per_second"], result["memory"] / 1e9
                print(f"{repeat + 1}. {peer}: {speed:.1f} tokens/s, {memory:.1f} GB", file=sys.stderr, flush=True)
    print(json.dumps(summary(runs, rows, arguments.steps), indent=None if arguments.json else 1))


def summary(runs: dict[str, list[dict[str, Any]]], rows: list[dict[str, list[int]]], steps: int) -> dict[str, Any]:
    """Medians by peer and the ratios, pair by pair, of trimpot to each way of running TRL."""
    peers = {
        peer: {
            "tokens_per_second": statistics.median(run["tokens_per_second"] for run in some),
            "memory_gb": statistics.median(run["memory"] for run in some) / 1e9,
            "first_loss": some[0]["losses"][0],
            "last_loss": some[0]["losses"][-1],
        }
        for peer, some in runs.items()
    }
    ratios = {
        peer: {
            "speed": [
                ours["tokens_per_second"] / theirs["tokens_per_second"]
                for ours, theirs in zip(runs["trimpot"], runs[peer], strict=True)
            ],
            "memory": [
                ours["memory"] / theirs["memory"] for ours, theirs in zip(runs["trimpot"], runs[peer], strict=True)
            ],
        }
        for peer in PEERS[:2]
    }
    gap = abs(peers["trimpot"]["first_loss"] - peers["trl"]["first_loss"])
    return {
        "job": f"SFT of SmolLM2-135M, all weights, fp32, {steps} steps of {BATCH} rows",
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "longest_row": max(len(row["input_ids"]) for row in rows),
        "peers": peers,
        "ratios": ratios,
        "first_loss_gap": gap,
        "same_job": gap < 1e-3,
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "trimpot")},
    }


if __name__ == "__main__":
    main()
