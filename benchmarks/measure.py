"""What a measurement is made of: marks of time and memory after every step, and the operations a model needs.

Operations are counted by hand, the same way in every job. A token that trains costs 6 per weight it meets (2 forward,
4 backward), one that is scored or generated 2. The trunk's weights meet every token, those of the output head the
target tokens only; the embedding table is looked up, which is no operation. Attention's own products are left out, as
is usual (arXiv 2001.08361, section 2.1), so the share of the machine's rate is a little too small, never too large.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TRAINED, SCORED = 6, 2
"""Operations per weight and token: forward and backward, and forward alone."""


Gate = Callable[[], None]
"""Called after every step; returns when the next one may begin."""


def open_gate() -> None:
    """Lets every step begin at once."""


@dataclass
class Clock:
    """The seconds of every step, and the process's highest memory until its end, in bytes.

    Between two steps it waits at the gate, so that the processes of two peers can take turns step by step. What lies
    before the first step (loading, tokenising) is not timed, nor is the waiting.
    """

    gate: Gate = open_gate
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter)

    def tick(self) -> None:
        """A step has ended."""
        self.seconds.append(time.perf_counter() - self._began)
        self.memory.append(peak_memory())
        self.gate()
        self._began = time.perf_counter()


@dataclass(frozen=True)
class Weights:
    """Weights of a model's trunk, without embeddings, and of its output head."""

    trunk: int
    head: int

    def operations(self, kind: int, tokens: float, targets: float) -> float:
        """``kind`` (TRAINED or SCORED) operations for each weight that these tokens and targets meet."""
        return kind * (self.trunk * tokens + self.head * targets)


def peak_memory() -> int:
    """The highest resident memory of this process so far, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def weights_of(model: str) -> Weights:
    """The weights of a model by its name or folder; nothing is loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from trimpot.models.load import folder_of

    config = AutoConfig.from_pretrained(folder_of(model))
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config)
    trunk = sum(value.numel() for value in whole.base_model.parameters())
    return Weights(trunk - whole.get_input_embeddings().weight.numel(), whole.get_output_embeddings().weight.numel())


def per_step(clock: Clock, counts: Sequence[float], **rest: Any) -> dict[str, Any]:
    """What a training job's ``run`` returns. The first step is a warm-up: the process touches its memory there.

    ``counts``: what each step did, warm-up included. ``work`` in ``rest`` must be equal for all peers of a job, as must
    ``numbers`` up to rounding. ``operations`` has one entry for every step, ``further_seconds`` is added to every step.
    """
    further = rest.pop("further_seconds", 0.0)
    if len(clock.seconds) != len(counts):
        raise RuntimeError(f"{len(clock.seconds)} steps were timed, {len(counts)} were asked for")
    seconds = [own + further for own in clock.seconds[1:]]
    operations = {"operations": rest.pop("operations")[1:]} if "operations" in rest else {}
    return {
        "values": [count / own for count, own in zip(counts[1:], seconds, strict=True)],
        "seconds": seconds,
        "peak_memory_bytes": clock.memory[-1],
        **operations,
        **rest,
    }


def column(lines: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """One metric of every step; a step that does not have it is an error."""
    return [float(line[name]) for line in lines]
