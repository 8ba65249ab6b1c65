"""The code behind a model's answers as one hash: a change of it makes cached answers void. No torch here."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import inspect
from pathlib import Path

from trimpot.core.hashing import bytes_hash

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the package."""
PACKAGE = "trimpot"
APART = ("knobs", "store")
"""Packages in which the imports end: words about results, and how files are written. No answer comes from them."""
LIBRARIES = ("torch", "transformers", "tokenizers", "jinja2")
"""Libraries whose versions count: they render, tokenise and compute."""


@functools.cache
def code_version(kind: type) -> str:
    """A hash of the file in which a model's class stands, of all in trimpot that it imports, and of library versions.

    Imports within functions count too; those of packages of APART do not, nor does what stands outside trimpot.

    Edge cases: a class that has no file (made in an interpreter) counts by its module and name alone.
    Source: as ``trimpot.studies.code`` follows imports; apart from it, as evaluation lies below the studies.
    """
    try:
        roots = [Path(inspect.getfile(kind)).resolve()]
    except (OSError, TypeError):
        roots = []
    parts = [f"{kind.__module__}.{kind.__qualname__}".encode()]
    for file in reached(roots):
        name = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name
        parts += [name.encode(), file.read_bytes()]
    return bytes_hash([*parts, *(f"{name} {_version(name)}".encode() for name in LIBRARIES)])


def reached(roots: list[Path]) -> list[Path]:
    """The files and all of the package that they import, directly or through others, sorted."""
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imports(file)
    return sorted(found)


def _imports(file: Path) -> list[Path]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            # "from a import b": b is a module of a, or a name in a.
            names += [f"{node.module}.{alias.name}" for alias in node.names]
            names += [str(node.module)]
    return [path for name in names if (path := _module(name)) is not None]


def _module(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != PACKAGE or parts[1:2] in [[one] for one in APART]:
        return None
    file = ROOT.joinpath(*parts).with_suffix(".py")
    return file if file.is_file() else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
