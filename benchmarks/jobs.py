"""The jobs of the suite, their rows (a peer against trimpot) and their targets: one table each.

A job is a module of this folder with ``run(peer, **sizes) -> result``. A job that takes turns also gets ``steps`` and a
``gate``: its peers' processes live side by side and do one step each in turn, after a warm-up step. Another job is run
anew by every peer in every repeat.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OURS = "trimpot"
Result = Mapping[str, Any]
TOLERANCE = 1e-3
"""By how much losses and log-probs of peers with the same work may differ, in parts of the larger of 1 and theirs."""


@dataclass(frozen=True)
class Job:
    """One job: who runs it in turn (trimpot last, where there is a peer), and about how long all of it takes.

    ``minutes`` are those of three repeats on two idle cores, for the time left.
    """

    name: str
    module: str
    title: str
    unit: str
    minutes: float
    peers: tuple[str, ...] = ()
    takes_turns: bool = False
    once: bool = False
    always: Mapping[str, Any] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)

    def size(self, quick: bool) -> dict[str, Any]:
        """What ``run`` gets: the module's sizes, with what the table says ``always`` or for a ``full`` run."""
        module = importlib.import_module(f"benchmarks.{self.module}")
        return {**module.QUICK, **self.always} if quick else {**module.FULL, **self.always, **self.full}

    @property
    def tolerance(self) -> float:
        """The module's own TOLERANCE, where it is stricter than the suite's."""
        own: float = getattr(importlib.import_module(f"benchmarks.{self.module}"), "TOLERANCE", TOLERANCE)
        return min(own, TOLERANCE)


@dataclass(frozen=True)
class Target:
    """What must be reached: by ``kind`` the ratio of rates or of memory to the best of ``peers``, the share of the
    machine's matmul rate, or trimpot's own value (seconds). Memory and seconds: at most; the others: at least.
    """

    what: str
    job: str
    kind: str
    limit: float
    peers: tuple[str, ...] = ()


TRL, ALLOCATOR = ("trl",), ("trl, same allocator",)
GENERATE = ("generate", "generate_batch")
LM_EVAL = ("lm-eval, batch 1", "lm-eval, batch 8", "lm-eval, batch 64")
NO_CHECKPOINTING = ("trl, same allocator, no checkpointing",)

JOBS = (
    Job("sft", "sft", "SFT, 8 rows a step", "tokens/s", 7, (*TRL, *ALLOCATOR, *NO_CHECKPOINTING), takes_turns=True),
    Job("dpo", "dpo", "DPO, 4 pairs a step", "pairs/s", 5, (*TRL, *ALLOCATOR), takes_turns=True),
    Job("reward", "reward", "reward model, 4 pairs a step", "pairs/s", 4, (*TRL, *ALLOCATOR), takes_turns=True),
    Job("grpo", "grpo", "GRPO, 2 prompts x 8, 64 new tokens", "completions/s", 7, (*TRL, *ALLOCATOR), takes_turns=True),
    Job(
        "generation-mixed", "generation", "64 prompts of 20 to 240 tokens, 64 new tokens", "tokens/s", 13,
        (*GENERATE, "generate, 16 at once, same allocator"), always={"workload": "mixed"},
    ),
    Job(
        "generation-groups", "generation", "8 such prompts x 8, 64 new tokens", "tokens/s", 8, GENERATE,
        always={"workload": "groups"},
    ),
    Job(
        "likelihood-shared", "likelihood_vs_lm_eval", "log-likelihood, 4 choices, the same examples", "questions/s", 6,
        (*LM_EVAL, "lm-eval, batch 8, same allocator"), always={"workload": "shared"},
    ),
    Job(
        "likelihood-own", "likelihood_vs_lm_eval", "log-likelihood, 4 choices, other examples each", "questions/s", 3,
        ("lm-eval, batch 8",), always={"workload": "own"},
    ),
    Job("scaling", "scaling", "training and sampling by size", "tokens/s", 3, once=True),
    Job("operators", "operators", "profile of an SFT step", "tokens/s", 0.7, once=True),
    Job("startup", "startup", "trimpot --help", "s", 0.1, once=True),
)  # fmt: skip

MATMUL = ("matmul", "torch")
"""Module and peer of the measurement of the machine's limit, at the beginning and at the end."""

TARGETS = (
    Target("SFT, against TRL's defaults", "sft", "ratio", 4.3, TRL),
    Target("SFT, against TRL with the same allocator setting", "sft", "ratio", 2.4, ALLOCATOR),
    Target("SFT, share of the matmul rate", "sft", "of_limit", 0.65),
    Target("SFT, peak memory against TRL's defaults", "sft", "memory", 0.5, TRL),
    Target("DPO, against TRL's defaults", "dpo", "ratio", 8.0, TRL),
    Target("DPO, peak memory against TRL's defaults", "dpo", "memory", 0.5, TRL),
    Target("reward model, peak memory against TRL's defaults", "reward", "memory", 0.5, TRL),
    Target("GRPO, against TRL's defaults", "grpo", "ratio", 3.5, TRL),
    Target("GRPO, peak memory against TRL's defaults", "grpo", "memory", 0.5, TRL),
    Target("generation, mixed prompts, against the faster of generate and generate_batch", "generation-mixed", "ratio",
           2.7, GENERATE),
    Target("generation, groups of 8, against the faster of the two", "generation-groups", "ratio", 3.5, GENERATE),
    Target("log-likelihood, against the fastest of lm-eval's batch sizes", "likelihood-shared", "ratio", 5.0, LM_EVAL),
    Target("start of the command line, seconds", "startup", "seconds", 0.3),
)  # fmt: skip
