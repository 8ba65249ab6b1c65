"""How long `trimpot --help` takes, from the start of the process to its end: the median of several calls."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import peak_memory

FULL = {"times": 10}
QUICK = {"times": 3}


def run(peer: str, times: int) -> dict[str, Any]:
    """Seconds of the median call; the first one, which may read files from disk, is not counted."""
    command = [str(Path(sys.executable).parent / "trimpot"), "--help"]
    seconds = []
    for _ in range(times + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return {
        "value": statistics.median(seconds[1:]),
        "seconds": sum(seconds),
        "peak_memory_bytes": peak_memory(),
        "work": {},
        "details": {"seconds": seconds[1:]},
    }
