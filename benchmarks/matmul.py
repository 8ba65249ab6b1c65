"""The machine's rate of fp32 matrix products: the limit that other jobs are held against.

Best of several shapes: a large square one, and those of SmolLM2-135M's layers and head at 512 tokens. A product of
[m, k] and [k, n] is 2 m k n operations. It is measured at the beginning and at the end of a run; the higher one counts.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import peak_memory

SHAPES = ((2048, 2048, 2048), (4096, 4096, 1024), (512, 1536, 576), (512, 576, 49152))
FULL = {"seconds": 1.5, "shapes": SHAPES}
QUICK = {"seconds": 0.3, "shapes": SHAPES}


def run(peer: str, seconds: float, shapes: tuple[tuple[int, int, int], ...]) -> dict[str, Any]:
    """Billions of operations per second of ``torch.mm`` at the best of the shapes; about ``seconds`` for each."""
    import torch

    rates = {" x ".join(map(str, shape)): _rate(torch, *shape, seconds) / 1e9 for shape in shapes}
    return {
        "value": max(rates.values()),
        "seconds": seconds * len(shapes),
        "peak_memory_bytes": peak_memory(),
        "work": {},
        "details": {"threads": torch.get_num_threads(), "shapes": rates},
    }


def _rate(torch: Any, m: int, n: int, k: int, seconds: float) -> float:
    """Operations per second of the fastest of the products that fit into the time."""
    left, right, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    torch.mm(left, right, out=out)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(left, right, out=out)
        best = min(best, time.perf_counter() - began)
    return 2 * m * n * k / best
