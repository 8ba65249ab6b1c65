"""Peers' processes: started, let go step by step, heard, and ended with whatever they printed where they fail."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.jobs import OURS, Job, Result

ROOT = Path(__file__).parents[1]
PATIENCE = 1800.0
"""Seconds after which a process that says nothing is given up."""
GRACE = 30.0
"""Seconds that a failing process has to print why."""


class PeerError(Exception):
    """A peer's process ended without a result or said nothing for too long; the text is the end of what it printed."""


class Peer:
    """A running process of ``benchmarks.child``."""

    def __init__(self, arguments: list[str], cache: Path, printed: IO[str]) -> None:
        self.name, self.printed = arguments[1], printed
        command = [sys.executable, "-m", "benchmarks.child", *arguments]
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed,
        )  # fmt: skip

    def go(self) -> None:
        """Lets the next step begin."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()

    def hear(self) -> Result:
        """The next message.

        Raises:
            PeerError: there is none.
        """
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            # A failing process closes this way before it has printed why.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE if ready else 0)
            self.end()
            self.printed.seek(0)
            raise PeerError(f"{self.name}: " + self.printed.read()[-2000:].strip())
        message: Result = json.loads(line)
        return message

    def end(self) -> None:
        """Ends the process, if it has not ended."""
        self.process.kill()
        self.process.wait()


@contextmanager
def fresh_cache() -> Iterator[Path]:
    """A cache folder with the models of the user's and nothing that a run left: reference log-probs are made anew."""
    from trimpot.models.embedded import NAME, cache_folder

    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "trimpot"
        own.mkdir()
        for entry in cache_folder().glob(f"{NAME}*"):
            (own / entry.name).symlink_to(entry)
        yield Path(folder)


def unpack_model(sizes: Mapping[str, Any]) -> None:
    """Puts the embedded model into the user's cache, where a job needs it: not every peer's process shall."""
    from trimpot.models.embedded import NAME, embedded_folder

    if sizes.get("model", NAME) == NAME:
        embedded_folder()


@contextmanager
def started(module: str, peer: str, sizes: Mapping[str, Any], turns: bool = False) -> Iterator[Peer]:
    """A peer's process, ended when the block is left."""
    with fresh_cache() as cache, tempfile.TemporaryFile("w+", errors="replace") as printed:
        process = Peer([module, peer, json.dumps(sizes), *(["turns"] if turns else [])], cache, printed)
        try:
            yield process
        finally:
            process.end()


def in_turn(job: Job, peer: str, sizes: Mapping[str, Any], repeats: int) -> Iterator[tuple[str, Result]]:
    """Runs peer and trimpot step by step in turn; yields (who, result) at the end, one for each.

    Both do a warm-up step first. While one has its step, the other waits and takes no processor time.
    """
    unpack_model(sizes)
    steps = {**sizes, "steps": repeats + 1}
    with started(job.module, peer, steps, turns=True) as theirs:
        theirs.hear()
        # Only now: what trimpot does before its first step may be timed (the reference of DPO).
        with started(job.module, OURS, steps, turns=True) as ours:
            ours.hear()
            yield from _take_turns(theirs, ours, repeats)


def _take_turns(theirs: Peer, ours: Peer, repeats: int) -> Iterator[tuple[str, Result]]:
    for _ in range(repeats):
        for process in (theirs, ours):
            process.go()
            process.hear()
    for process in (theirs, ours):
        process.go()
        yield process.name, process.hear()["result"]


def alone(job: Job, peer: str, sizes: Mapping[str, Any]) -> Result:
    """One peer's run of a job that takes no turns."""
    unpack_model(sizes)
    with started(job.module, peer, sizes) as process:
        result: Result = process.hear()["result"]
        return result
