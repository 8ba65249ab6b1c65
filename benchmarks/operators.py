"""Where the time of a training step goes: the SFT job's second step under torch.profiler, operators by self time.

Self time is what an operator spends outside the operators that it calls. Operators run one after the other on the main
thread, so their self times add to the step's; what is left over is Python. The profiler itself costs a little.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.loop import steps_of
from benchmarks.measure import peak_memory
from benchmarks.rows import chat_rows
from benchmarks.sft import FULL as SFT
from benchmarks.trimpot_side import drawn

FULL = {**SFT, "operators": 16}
QUICK = {**SFT, "batch": 2, "operators": 16}


def run(peer: str, model: str, batch: int, max_length: int, operators: int) -> dict[str, Any]:
    """The most costly operators as ``details``; the value is the rate of the step that was watched."""
    from torch.profiler import ProfilerActivity, profile

    from trimpot.models.allocator import keep_freed_memory
    from trimpot.models.load import load

    keep_freed_memory()
    samples = drawn("sft", chat_rows(2 * batch), batch, model, max_length)
    steps = steps_of(load(model), samples, batch)
    next(steps)
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        began = time.perf_counter()
        next(steps)
        seconds = time.perf_counter() - began
    averages = sorted(watched.key_averages(), key=lambda event: -event.self_cpu_time_total)
    lines = [
        {"operator": event.key, "seconds": event.self_cpu_time_total / 1e6, "calls": event.count} for event in averages
    ]
    rest = lines[operators:]
    other = {name: sum(line[name] for line in rest) for name in ("seconds", "calls")}
    python = max(0.0, seconds - sum(event.self_cpu_time_total for event in averages) / 1e6)
    lines = [
        *lines[:operators],
        {"operator": "all other operators", **other},
        {"operator": "outside operators (Python)", "seconds": python, "calls": 0},
    ]
    tokens = sum(sample.tokens for sample in samples[batch:])
    return {
        "value": tokens / seconds,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
        "work": {"tokens": tokens},
        "details": {"operators": [{**line, "share": line["seconds"] / seconds} for line in lines]},
    }
