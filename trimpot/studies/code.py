"""Which source files a study's numbers can depend on, and a hash of them: the imports of its module, followed."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from trimpot.core.hashing import bytes_hash

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the package."""
PACKAGE = "trimpot"
APART = ("knobs", "store")
"""Packages in which the imports end: words about results, and how files are written. No number comes from them."""


def code_of(functions: Sequence[Callable[..., Any]], more: Iterable[Path] = ()) -> dict[str, Any]:
    """``hash`` of the sources behind the functions, and ``files``: name -> hash of each.

    Files are those in which the functions stand, ``more``, and what these import within trimpot, directly or through
    others, in functions too. A package's ``__init__`` counts where something is imported from it by name, not where a
    module of the package is, so that another study in the list of studies changes no other's hash.
    """
    roots = [_file_of(function) for function in functions]
    files = reached([*roots, *more])
    hashes = {_name(file): bytes_hash([file.read_bytes()]) for file in files}
    return {"hash": files_hash(files), "files": hashes}


def files_hash(files: Iterable[Path]) -> str:
    """A hash of the names and contents of files."""
    return bytes_hash(part for file in sorted(files) for part in (_name(file).encode(), file.read_bytes()))


def reached(roots: Iterable[Path]) -> list[Path]:
    """The files and all of the package that they import, sorted."""
    found: set[Path] = set()
    waiting = [root.resolve() for root in roots]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imports_of(file)
    return sorted(found)


@functools.cache
def imports_of(file: Path) -> tuple[Path, ...]:
    """The files of the package that a file imports, anywhere in it; those of APART are left out."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {path for alias in node.names if (path := _module(alias.name)) is not None}
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, file)
            for alias in node.names:
                path = _module(f"{base}.{alias.name}") or _module(base)
                found |= set() if path is None else {path}
    return tuple(sorted(found))


def _base(node: ast.ImportFrom, file: Path) -> str:
    """The module that names are imported from; a relative one counts from the file's package."""
    if not node.level:
        return node.module or ""
    if not file.is_relative_to(ROOT):
        return ""
    package = file.relative_to(ROOT).parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _module(name: str) -> Path | None:
    """The file of a module of the package; None for others, and for those of APART."""
    parts = name.split(".")
    if parts[0] != PACKAGE or parts[1:2] in [[one] for one in APART]:
        return None
    place = ROOT.joinpath(*parts)
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file.resolve()
    return None


def _file_of(function: Callable[..., Any]) -> Path:
    while isinstance(function, functools.partial):
        function = function.func
    return Path(function.__code__.co_filename)


def _name(file: Path) -> str:
    """Its path within the package's folder; the name alone of a file outside, as folders differ by machine."""
    return file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name
