"""Runs a program against tests in processes with limits of time, memory, files, network and processes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.evaluation.suites.code.system_calls import filter_program

ROOT = Path(__file__).parents[4]
"""The folder that holds trimpot."""
_PYTHON = (sys.executable, "-s", "-P", "-S", "-B", "-X", "utf8", "-c")
_START = "import sys; sys.path.insert(0, {root!r}); from trimpot.evaluation.suites.code.{module} import main; "
_BACKSTOP = 5.0
"""Seconds after the limit at which all processes of a test are killed from outside, should the checker hang."""


@dataclass(frozen=True)
class Limits:
    """What a program may use in all its calls together: wall-clock seconds, and MiB of address space.

    The defaults are ours; HumanEval's own harness gives 3 seconds, on a machine that does nothing else. macOS does not
    hold the limit of memory.
    """

    seconds: float = 10.0
    memory_mib: int = 512


@dataclass(frozen=True)
class Verdict:
    """``why`` a program did not pass: wrong answer, raised NAME, time limit, ended without an answer, no function …"""

    passed: bool
    why: str = ""


def run_tests(program: str, function: str, prompt: str, test: str, limits: Limits = Limits()) -> Verdict:
    """Whether the function that ``program`` defines passes ``test``.

    Two processes of their own, in an empty folder and with an empty environment. One holds the tests, and asks the
    other, which holds the program, for one answer after the other; answers cross as plain values. On Linux (x86_64,
    aarch64) the kernel refuses the program's process every call that would write a file, reach a network, start a
    process or signal one; an audit hook does so in Python everywhere, and lets it read Python's own library only.

    Args:
        program: source text. It is run as it is: whoever calls this has been told to run a model's programs.
        prompt: source text that the tests need, as HumanEval's helpers; its own definition of the function is replaced.
        test: source text that defines ``check(candidate)``.

    Raises:
        UsageError: the platform has no limits of resources (Windows), or the checker itself failed.
    """
    if importlib.util.find_spec("resource") is None:
        raise UsageError("--run-code", "this platform cannot limit a process", "Run it on Linux, macOS or in WSL.")
    order: dict[str, Any] = {
        "guest": _command("guest"),
        "prompt": prompt,
        "test": test,
        "program": program,
        "function": function,
        "seconds": limits.seconds,
        "memory_bytes": limits.memory_mib << 20,
        "filter": filter_program().hex(),
    }
    with tempfile.TemporaryDirectory(prefix="trimpot-code-") as folder:
        process = subprocess.Popen(
            _command("checker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            # The same order of sets and dictionaries in every run.
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        try:
            said, errors = process.communicate(json.dumps(order).encode() + b"\n", limits.seconds + _BACKSTOP)
        except subprocess.TimeoutExpired:
            return Verdict(False, "time limit")
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    try:
        verdict = json.loads(said)
        return Verdict(verdict["passed"] is True, str(verdict["why"]))
    except (ValueError, KeyError, TypeError) as error:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise UsageError("--run-code", f"the tests of {function} could not run ({last[0]})", "Report it.") from error


def _command(module: str) -> list[str]:
    root = str(ROOT)
    return [*_PYTHON, _START.format(root=root, module=module) + "sys.path.pop(0); main()"]
