"""Verifiers in a process of their own: every call has a time limit, and a call that fails spoils no other."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message, Origin, PromptRow
from trimpot.rollout.verifiers import VERIFIERS, Score, Verifier, find_verifier, on_row, raised

START_LIMIT = 120.0
"""Seconds that looking a verifier up may take: the imports of a user's file count here, not in its first call."""

_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from trimpot.rollout.workers import serve; serve()"


class Worker:
    """Runs verifiers and users' functions in one child process, which starts at the first call and is then reused.

    A call that raises, ends the process or overruns ``time_limit`` seconds is an error of its own completion only;
    the process is started anew where it must be. So a function must not count on what it kept from earlier calls.
    Rows go there as JSON: a tuple in their metadata arrives as a list. What the functions print on standard output is
    dropped; standard error is this process's.
    """

    def __init__(self, time_limit: float) -> None:
        self.time_limit = time_limit
        self._child: _Child | None = None
        self._loaded: set[str] = set()
        self._calls = 0

    def load(self, name: str) -> None:
        """Looks a verifier up in the child process.

        Raises:
            UsageError: as ``find_verifier``, or the file ended the process or took too long.
        """
        if name in self._loaded:
            return
        try:
            reply = self._ask(name, None, START_LIMIT)
        except _NoReplyError as error:
            raise UsageError(name, f"{error} while it was imported", "Mend the file.") from error
        if "error" in reply:
            raise UsageError(*reply["error"])
        self._loaded.add(name)

    def score(self, name: str, output: str, row: PromptRow) -> Score:
        """The named verifier's score of one completion; of status error where it gave none.

        Raises:
            UsageError: as ``load``, or the row's metadata is not JSON.
        """
        self.load(name)
        try:
            call = json.dumps([output, dataclasses.asdict(row)])
        except (TypeError, ValueError) as error:
            problem = f"metadata is not JSON ({error})"
            raise UsageError(str(row.origin), problem, "Give strings, numbers, lists and objects.") from error
        try:
            reply = self._ask(name, call, self.time_limit)
        except _NoReplyError as error:
            mend = "Raise reward_time_limit." if name in VERIFIERS else "Mend the function, or raise reward_time_limit."
            return Score(float("nan"), "error", UsageError(name, f"{error} {on_row(row)}", mend))
        if "error" in reply:
            return Score(float("nan"), "error", UsageError(*reply["error"]))
        return Score(reply["value"], reply["status"])

    def close(self) -> None:
        """Ends the process; the next call would start another. Happens by itself when the program ends."""
        if self._child is not None:
            self._child.stop()
        self._child, self._loaded = None, set()

    def _ask(self, name: str, call: str | None, limit: float) -> Mapping[str, Any]:
        if self._child is None:
            self._child = _Child()
        self._calls += 1
        try:
            reply = self._child.ask((self._calls, name, call), limit)
            if reply["call"] != self._calls:
                raise _NoReplyError("wrote into the pipe that its results go through")
            return reply
        except BaseException:
            # Also after Ctrl-C: a reply still under way must not be taken for that of a later call.
            self.close()
            raise


class _NoReplyError(Exception):
    """The child process gave no result; the message says why."""


class _Child:
    """The child process. Requests and replies are lines of JSON."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C reaches the parent only, and what a function started ends with it.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps([path or str(Path.cwd()) for path in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        threading.Thread(target=_receive_lines, args=(self._process.stdout, self._replies), daemon=True).start()
        self.stop = weakref.finalize(self, _end, self._process)

    def ask(self, request: object, limit: float) -> Mapping[str, Any]:
        """Sends a request and waits for its reply, at most ``limit`` seconds."""
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
            line = self._replies.get(timeout=limit)
        except queue.Empty:
            raise _NoReplyError(f"took longer than {limit:g} s") from None
        except BrokenPipeError:
            line = b""
        if not line:
            raise _NoReplyError(f"ended the process ({self._ending()})")
        try:
            return json.loads(line)
        except ValueError:
            raise _NoReplyError("wrote into the pipe that its results go through") from None

    def _ending(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "closed its pipes"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _receive_lines(stream: IO[bytes], replies: queue.SimpleQueue[bytes]) -> None:
    with stream:
        for line in stream:
            replies.put(line)
    replies.put(b"")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()


def serve() -> None:
    """The child process: answers requests until the parent is gone."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="ascii")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    calls: queue.SimpleQueue[tuple[int, str, str | None]] = queue.SimpleQueue()
    threading.Thread(target=_receive_calls, args=(requests, calls), daemon=True).start()
    verifiers: dict[str, Verifier] = {}
    while True:
        number, name, call = calls.get()
        try:
            if call is None:
                verifiers[name], reply = find_verifier(name), {}
            else:
                output, row = _read_call(call)
                score = verifiers[name](output, row)
                reply = {"value": score.value, "status": score.status}
        except UsageError as error:
            reply = {"error": [error.where, error.problem, error.mend]}
        except BaseException as error:  # sys.exit in a function too
            place = f" {on_row(_read_call(call)[1])}" if call else ""
            reply = {"error": [name, raised(error) + place, "Mend the function."]}
        replies.write(json.dumps({"call": number} | reply) + "\n")
        replies.flush()


def _receive_calls(requests: IO[bytes], calls: queue.SimpleQueue[Any]) -> None:
    # In a thread, so that the child ends with its parent even while a function hangs.
    for line in requests:
        calls.put(json.loads(line))
    os._exit(0)


def _read_call(call: str) -> tuple[str, PromptRow]:
    """A completion's text and its row, as ``Worker.score`` wrote them."""
    output, row = json.loads(call)
    row["prompt"] = tuple(
        Message(**{**message, "tool_calls": tuple(message["tool_calls"])}) for message in row["prompt"]
    )
    row["origin"] = Origin(**{**row["origin"], "parents": tuple(row["origin"]["parents"])})
    return output, PromptRow(**row)
