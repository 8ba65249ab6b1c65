"""Writes that are whole or absent: to a temporary sibling, synced, then renamed into place."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# safetensors passes the system's words on; torch's writer only says that the file is shorter than it should be.
_FULL_WORDS = (*(os.strerror(number) for number in _FULL), "PytorchStreamWriter failed writing", "unexpected pos")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text so that a reader sees the old or the new content, never a part.

    Raises:
        UsageError: the disk is full; the previous file is untouched.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON-able value, indented, as `write_text` does."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Writes bytes so that a reader sees the old or the new content, never a part.

    Raises:
        UsageError: the disk is full; the previous file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path, "tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if is_full_disk(error):
            raise full_disk(path, "the previous file is untouched") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yields an empty sibling folder; renames it to ``final`` on success, removes it on failure.

    What ``final`` held is replaced on success and untouched on failure. A folder cannot be replaced in one
    system call, so between two renames a kill may leave the previous content beside it; the next
    `atomic_folder` on that name puts it back first. Leftovers of killed processes are removed then too.

    Raises:
        UsageError: the disk is full; the previous folder is untouched.
    """
    final = Path(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    _recover(final)
    temporary = _sibling(final, "tmp")
    temporary.mkdir()
    descriptor = os.open(temporary, os.O_RDONLY)
    # The lock tells a folder that is being written from one that a killed process left.
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield temporary
        _sync_tree(temporary)
        _swap(temporary, final)
    except Exception as error:
        if is_full_disk(error):
            raise full_disk(final, "the previous file is untouched") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def is_full_disk(error: BaseException) -> bool:
    """True when the error, or one it came from, says that the disk or the quota is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if any(words in str(cause) for words in _FULL_WORDS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def full_disk(path: Path, state: str) -> UsageError:
    """The error line for a full disk: ``state`` says what is left of what was there."""
    return UsageError(str(path), f"the disk is full; {state}", "Free some space, then try again.")


def _sibling(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.{ending}")


def _swap(temporary: Path, final: Path) -> None:
    if not final.exists():
        temporary.rename(final)
        _sync_folder(final.parent)
        return
    previous = _sibling(final, "old")
    final.rename(previous)
    try:
        temporary.rename(final)
    except BaseException:
        previous.rename(final)
        raise
    _sync_folder(final.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _recover(final: Path) -> None:
    for previous in final.parent.glob(f".{final.name}.*.old"):
        if final.exists():
            shutil.rmtree(previous, ignore_errors=True)
        else:
            previous.rename(final)
    for leftover in final.parent.glob(f".{final.name}.*.tmp"):
        with suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(place) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_folder(Path(place))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
