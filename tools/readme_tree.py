"""Writes the tree of folders into README.md, from the first line of every package's docstring.

Run: python tools/readme_tree.py
"""

from __future__ import annotations

import ast
from pathlib import Path

BEGIN, END = "<!-- tree: python tools/readme_tree.py -->", "<!-- end of tree -->"
TOP_FOLDERS = {
    "recipes": "Recipes that are ready to run.",
    "examples": "Each method in one file, top to bottom.",
    "benchmarks": "Measurements against other libraries.",
    "docs": "How the project is built, and pictures.",
    "tests": "Mirrors the package, plus contract/ (what every piece promises) and architecture/ (the rules).",
    "tools": "Scripts for working on the project itself.",
}


def description(folder: Path) -> str:
    """The first line of the docstring of a package; empty where there is none."""
    file = folder / "__init__.py"
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file.exists() else None
    return text.splitlines()[0].strip() if text else ""


def tree(root: Path) -> str:
    """One line per folder, indented by depth: its name and what it is."""
    packages = sorted({file.parent for file in (root / "trimpot").rglob("__init__.py")})
    lines = [(len(folder.relative_to(root).parts) - 1, folder.name, description(folder)) for folder in packages]
    lines += [(0, name, text) for name, text in TOP_FOLDERS.items() if (root / name).is_dir()]
    width = max(2 * depth + len(name) for depth, name, _ in lines) + 3
    return "\n".join(f"{'  ' * depth + name + '/':<{width}}{text}".rstrip() for depth, name, text in lines)


def with_tree(readme: str, text: str) -> str:
    """The README with this tree between its markers.

    Raises:
        ValueError: it has no markers.
    """
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no place for the tree: {BEGIN} … {END}")
    return f"{head}{BEGIN}\n```\n{text}\n```\n{END}{tail}"


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    readme = root / "README.md"
    readme.write_text(with_tree(readme.read_text(encoding="utf-8"), tree(root)), encoding="utf-8")


if __name__ == "__main__":
    main()
