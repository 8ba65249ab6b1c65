"""Passages of text that installed packages carry, read from their files; nothing is imported or downloaded."""

from __future__ import annotations

import ast
import platform
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

SHORTEST, LONGEST = 300, 1200
"""Characters of a passage."""
MODULES = (
    *("argparse", "bisect", "calendar", "colorsys", "configparser", "copy", "csv", "difflib", "fractions", "functools"),
    *("glob", "gzip", "heapq", "html/parser", "json/decoder", "json/encoder", "mailbox", "optparse", "pprint", "queue"),
    *("random", "shlex", "statistics", "string", "tarfile", "textwrap", "threading", "tokenize", "zipfile"),
)
"""Modules of the standard library whose functions are passages of code."""
DOCUMENTED = {"scipy": ("cluster", "fft", "integrate", "interpolate", "ndimage"), "numpy": ("lib",)}
"""Package -> folders whose docstrings are passages of documentation."""
LICENSED = ("numpy", "scipy", "scikit-learn", "transformers", "safetensors", "pydantic", "jinja2")
STORY = ("reasoning-gym", "reasoning_gym/data/in_the_year_2889.txt")
"""A story of 1889 by Jules Verne (public domain), which reasoning-gym carries."""


@dataclass(frozen=True)
class Passage:
    """A piece of text, the document it is from, and the package with its version."""

    text: str
    document: str
    source: str


def code() -> Iterator[Passage]:
    """Functions and methods of Python's standard library, as they stand (PSF licence)."""
    source = f"Python {platform.python_version()}"
    for module in MODULES:
        path = Path(sysconfig.get_path("stdlib"), f"{module}.py")
        if not path.is_file():  # zipfile became a folder in Python 3.12
            continue
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                yield from _fitting(textwrap.dedent(_segment(text, node)), module, source)


def documentation() -> Iterator[Passage]:
    """Paragraphs of docstrings of numpy and scipy (BSD)."""
    for package, folders in DOCUMENTED.items():
        known = distribution(package)
        root, source = Path(str(known.locate_file(package))), f"{package} {known.version}"
        for path in sorted(path for folder in folders for path in root.joinpath(folder).glob("*.py")):
            name = path.relative_to(root.parent).with_suffix("").as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and (found := ast.get_docstring(node)):
                    yield from _fitting(found[:LONGEST].rpartition("\n\n")[0] or found, name, source)


def prose() -> Iterator[Passage]:
    """A short story, some paragraphs at a time."""
    package, file = STORY
    known = distribution(package)
    text = Path(str(known.locate_file(file))).read_text(encoding="utf-8")
    # Without what Project Gutenberg puts before and after the story.
    _, _, story = text.rpartition("*** START")
    text = story.partition("\n")[2].partition("*** END")[0]
    for number, passage in enumerate(_joined(text)):
        yield from _fitting(passage, f"In the Year 2889, part {1 + number // 8}", f"{package} {known.version}")


def legal() -> Iterator[Passage]:
    """Paragraphs of the licences that packages bring."""
    for package in LICENSED:
        known = distribution(package)
        for file in sorted(known.files or (), key=str):
            if re.fullmatch(r"(?i)(licen[cs]e|copying|notice)[^/]*", file.name) and "dist-info" in str(file):
                text = Path(str(known.locate_file(file))).read_text(encoding="utf-8", errors="ignore")
                for passage in _joined(text):
                    yield from _fitting(passage, f"{package}: {file.name}", f"{package} {known.version}")


DOMAINS: Mapping[str, Callable[[], Iterator[Passage]]] = {
    "code": code,
    "documentation": documentation,
    "prose": prose,
    "legal": legal,
}
"""Domain -> its passages, in an order that the files decide."""


def _segment(text: str, node: ast.FunctionDef) -> str:
    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])


def _joined(text: str) -> Iterator[str]:
    """Paragraphs, short ones together with those that follow."""
    held = ""
    for paragraph in re.split(r"\n\s*\n", text):
        one = " ".join(paragraph.split())
        held = f"{held}\n\n{one}" if held else one
        if len(held) >= SHORTEST:
            yield held
            held = ""


def _fitting(text: str, document: str, source: str) -> Iterator[Passage]:
    if SHORTEST <= len(text.strip()) <= LONGEST:
        yield Passage(text.strip(), document, source)
