import ast
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("trimpot", "tests", "examples", "tools", "benchmarks")


@dataclass(frozen=True)
class Source:
    """A parsed Python file; ``path`` is relative to the root of the repository."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """Its dotted name; a package's is that of its __init__."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """Every Python file of the project."""
    files = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    return [Source(file.relative_to(ROOT).as_posix(), text, ast.parse(text)) for file, text in texts.items()]


@pytest.fixture(scope="session")
def package(sources: list[Source]) -> list[Source]:
    """The files of the package alone."""
    return [source for source in sources if source.path.startswith("trimpot/")]


@pytest.fixture(scope="session")
def snippet() -> Callable[..., Source]:
    def make(text: str, path: str = "trimpot/offender.py") -> Source:
        return Source(path, text, ast.parse(text))

    return make


@pytest.fixture(scope="session")
def allowlist() -> dict[str, list[str]]:
    allowed: dict[str, list[str]] = json.loads((Path(__file__).parent / "allowlist.json").read_text(encoding="utf-8"))
    return allowed


@pytest.fixture(scope="session")
def hold(allowlist: dict[str, list[str]]) -> Callable[[str, list[str]], None]:
    """Fails on a violation that the allowlist does not have, and on an entry of it that is no violation any more."""

    def check(rule: str, violations: list[str]) -> None:
        allowed = set(allowlist.get(rule, []))
        assert sorted(set(violations) - allowed) == [], f"{rule} is violated"
        assert sorted(allowed - set(violations)) == [], f"stale entries under {rule}: take them out of allowlist.json"

    return check
