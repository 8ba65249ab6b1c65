"""The process that tests a model's program: it runs the tests, and asks ``guest`` for every answer.

The tests never enter the process of the program, and answers cross as plain values. So a program passes only by giving
the right ones: to end the process, to print a word or to return an object that equals everything is no way to pass.
Started by ``sandbox`` with the standard library only.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import random
import select
import subprocess
import sys
import time
from typing import Any

from trimpot.evaluation.suites.code.plain import NotPlainError, decode, encode

LONGEST_REPLY = 1 << 20
"""Bytes of one answer."""


class _EndError(BaseException):
    """The program is not to be asked again. Not an Exception: tests that catch one must not go on."""


class _Program:
    """The guest process, called like the function that it holds."""

    def __init__(self, command: list[str], order: dict[str, Any]) -> None:
        self.deadline = time.monotonic() + order["seconds"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ)
        )
        self.unread = b""
        self.error = str(self._asked(order).get("error", ""))

    def __call__(self, *arguments: object, **named: object) -> Any:
        reply = self._asked({"arguments": encode(arguments), "named": encode(named)})
        if "value" in reply:
            try:
                return decode(reply["value"])
            except NotPlainError as error:
                raise _EndError("no plain value") from error
        name = str(reply.get("error"))
        known = getattr(builtins, name, None)
        if isinstance(known, type) and issubclass(known, Exception):
            raise RuntimeError(name) if known is AssertionError else known(name)
        raise _EndError(f"raised {name:.40}")

    def _asked(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
            reply = json.loads(self._line())
        except (BrokenPipeError, ValueError, RecursionError) as error:
            raise _EndError("ended, or wrote what is no answer") from error
        if not isinstance(reply, dict):
            raise _EndError("wrote what is no answer")
        return reply

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise _EndError("time limit")
            read = os.read(descriptor, 1 << 16)
            if not read:
                raise _EndError("ended without an answer")
            self.unread += read
            if len(self.unread) > LONGEST_REPLY:
                raise _EndError("answer too long")
        line, _, self.unread = self.unread.partition(b"\n")
        return line


def main() -> None:
    """Reads one order from standard input and writes the verdict: passed, and why not."""
    order = json.loads(sys.stdin.readline())
    guest = order.pop("guest")
    prompt, test = order.pop("prompt"), order.pop("test")
    program = None
    try:
        program = _Program(guest, order)
        why = program.error or _tested(program, order["function"], prompt, test)
    except _EndError as end:
        why = str(end)
    finally:
        if program is not None:
            program.process.kill()
    print(json.dumps({"passed": not why, "why": why}))


def _tested(program: _Program, function: str, prompt: str, test: str) -> str:
    """Runs the tests; why they fail, or nothing. Some of them call the prompt's helpers and the function by name."""
    random.seed(0)  # tests draw from the global generator, which is this process's own
    space: dict[str, Any] = {"__name__": "tests"}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(prompt, space)
            space[function] = program
            exec(test, space)
            space["check"](program)
    except AssertionError:
        return "wrong answer"
    except Exception as error:
        return f"raised {type(error).__name__}"
    return ""
