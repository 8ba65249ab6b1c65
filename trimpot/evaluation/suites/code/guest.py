"""The process that runs a model's program: it gives up what it may do, then answers calls of one function.

It never sees a test. Started by ``checker`` with Python's ``-I -S``: the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import struct
import sys
import sysconfig
from collections.abc import Callable
from typing import Any

from trimpot.evaluation.suites.code.plain import decode, encode

_PARENT_DEATH_SIGNAL, _SECCOMP, _NO_NEW_PRIVILEGES, _FILTER_MODE = 1, 22, 38, 2  # linux/prctl.h, linux/seccomp.h
_KILL = 9
_REFUSED_EVENTS = (
    *("socket.", "subprocess.", "ctypes.", "shutil.", "resource.", "pty.", "tempfile.", "signal.pthread_kill"),
    *("os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.remove", "os.rename", "os.rmdir"),
    *("os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.utime", "os.setxattr"),
    *("os.removexattr", "os.chflags", "os.lockf"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    """Reads one line with the program and its limits, then one call a line; answers each with one line of JSON."""
    calls, replies = _private(0, "r"), _private(1, "w")
    for number in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    order = json.loads(calls.readline())
    _limit(order["memory_bytes"], order["seconds"])
    filtered = _filter(bytes.fromhex(order["filter"]))
    sys.addaudithook(_hook())  # last: it refuses what the two before it use
    function, error = _defined(order["program"], order["function"])
    _say(replies, {"filtered": filtered, "error": error})
    while function is not None and (line := calls.readline()):
        _say(replies, _answer(function, json.loads(line)))


def _private(number: int, mode: str) -> Any:
    """The stream moved to another descriptor, so that what the program reads and prints is not on it."""
    return os.fdopen(os.dup(number), mode, encoding="utf-8")


def _say(replies: Any, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _limit(memory_bytes: int, seconds: float) -> None:
    processor = math.ceil(seconds) + 1
    for name, value in (("AS", memory_bytes), ("CPU", processor), ("FSIZE", 0), ("NOFILE", 32), ("CORE", 0)):
        # macOS takes no limit of the address space.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def _filter(program: bytes) -> bool:
    """Hands the filter to the kernel, for good; False where there is none or the kernel takes none."""
    if not program:
        return False
    instructions = ctypes.create_string_buffer(program, len(program))
    length = len(program) // 8
    # struct sock_fprog: an unsigned short, then a pointer at its own alignment.
    told = ctypes.create_string_buffer(struct.pack("@HP", length, ctypes.addressof(instructions)))
    kernel = ctypes.CDLL(None, use_errno=True).prctl
    kernel(_PARENT_DEATH_SIGNAL, _KILL, 0, 0, 0)
    if kernel(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(kernel(_SECCOMP, _FILTER_MODE, told, 0, 0) == 0)


def _hook() -> Callable[[str, tuple[Any, ...]], None]:
    """Python's own refusal, on every platform; an audit hook cannot be taken off again.

    The kernel's filter is the wall where there is one. This also keeps files from being read, but for Python's library.
    """
    library = tuple(os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib"))
    packages = tuple(folder + name for folder in library for name in ("site-packages", "dist-packages"))
    refused, writing, real, text = _REFUSED_EVENTS, _WRITING, os.path.realpath, os.fsdecode

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event.startswith(refused):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open":
            path, _, flags = details
            if isinstance(path, int) or (isinstance(flags, int) and flags & writing):
                raise PermissionError("files cannot be written here")
            if not (name := real(text(path))).startswith(library) or name.startswith(packages):
                raise PermissionError("files cannot be read here")

    return hook


def _defined(program: str, name: str) -> tuple[Callable[..., Any] | None, str]:
    """Runs the program; the function of that name, or why there is none."""
    space: dict[str, Any] = {"__name__": "program", "__builtins__": __builtins__}
    try:
        exec(compile(program, "program", "exec"), space)
    except BaseException as error:
        return None, type(error).__name__
    found = space.get(name)
    return (found, "") if callable(found) else (None, f"no function {name}")


def _answer(function: Callable[..., Any], call: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": encode(function(*decode(call["arguments"]), **decode(call["named"])))}
    except BaseException as error:
        return {"error": type(error).__name__}
