"""Append-only logs, one JSON object a line, that survive ``kill -9``."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.store.atomic import full_disk, is_full_disk, write_text


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Appends one object as one line with a single O_APPEND write.

    The line is in the kernel's hands when this returns, so a killed process loses nothing. A line that an
    earlier process left torn is cut off first. NaN and infinity are written as ``NaN`` and ``Infinity``:
    a diverged loss must stay distinguishable from one that was not reported.

    Raises:
        UsageError: the disk is full; the lines before are untouched.
    """
    line = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        _mend_torn_line(descriptor)
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if is_full_disk(error):
            raise full_disk(path, "the lines before are untouched") from error
        raise
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a log, oldest first. A torn last line is left out; a file that is not there has none.

    Raises:
        UsageError: another line is not a JSON object; names file and line.
    """
    if not Path(path).exists():
        return []
    *lines, last = Path(path).read_bytes().split(b"\n")
    rows = [_parse(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if last.strip():
        with suppress(UsageError):  # the write of this line was cut short
            rows.append(_parse(path, len(lines) + 1, last))
    return rows


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a log by these lines, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows))


def truncate_after(path: Path, step: int) -> None:
    """Keeps only the lines whose ``step`` is at most ``step``, atomically. A missing file stays missing."""
    if Path(path).exists():
        write_lines(path, [row for row in read_lines(path) if "step" in row and row["step"] <= step])


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{path}:{number}", "not a line of JSON", "Remove the line.") from error
    if not isinstance(row, dict):
        raise UsageError(f"{path}:{number}", "not a JSON object", "Remove the line.")
    return row


def _mend_torn_line(descriptor: int) -> None:
    """Makes the file end in a newline: a whole object gets one, a torn one is cut off."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    content = os.pread(descriptor, size, 0)
    start = content.rfind(b"\n") + 1
    try:
        json.loads(content[start:])
    except ValueError:
        os.ftruncate(descriptor, start)
    else:
        os.write(descriptor, b"\n")
