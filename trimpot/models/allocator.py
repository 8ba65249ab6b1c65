"""glibc's allocator, told to keep freed memory: page faults otherwise cost up to half of a CPU step."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Sets mallopt(no trim, no mmap), so that tensors freed and made again are not faulted in anew.

    Edge cases: returns False and does nothing where the C library is not glibc.
    Source: ours; measured by the benchmark suite (`make bench`). The price: memory freed stays with the process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, -1))
