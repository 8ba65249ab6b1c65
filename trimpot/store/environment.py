"""What a run ran on: machine, library versions, commit. Read without importing the libraries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import trimpot

LIBRARIES = ("torch", "transformers", "tokenizers", "peft")


def environment(libraries: Sequence[str] = LIBRARIES) -> dict[str, object]:
    """Python, platform, processor, memory, versions of libraries, trimpot's commit and the time (UTC, ISO 8601).

    Units: ``memory_bytes`` is the machine's physical memory. What cannot be found out is None.
    """
    commit, changed = _commit()
    return {
        "time": now(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": _cpu_count(),
        "memory_bytes": _memory_bytes(),
        "versions": {"trimpot": trimpot.__version__, **{name: _version(name) for name in libraries}},
        "commit": commit,
        "uncommitted_changes": changed,
    }


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_count() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> tuple[str | None, bool | None]:
    """Commit of trimpot's own checkout; None when trimpot is installed elsewhere, even inside another repository."""
    root = Path(trimpot.__file__).resolve().parent.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no")) if commit else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
