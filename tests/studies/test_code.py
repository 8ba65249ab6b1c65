"""Which files a study's hash covers: what its module imports, and not its neighbours."""

import importlib.util
from pathlib import Path

import pytest

from trimpot.studies import code, dpo_beta, failure_labs
from trimpot.studies.code import code_of, files_hash, imports_of, reached


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of files, written by name; the walk takes it for trimpot's."""
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def write(name: str, text: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    for folder in ("trimpot", "trimpot/studies", "trimpot/core", "trimpot/store"):
        write(f"{folder}/__init__.py")
    yield write
    imports_of.cache_clear()


def names(files, root):
    return {file.relative_to(root).as_posix() for file in files}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import trimpot.core.rows", {"trimpot/core/rows.py"}),
        ("from trimpot.core import rows", {"trimpot/core/rows.py"}),
        ("from trimpot.core.rows import Row", {"trimpot/core/rows.py"}),
        ("from trimpot.core import Row", {"trimpot/core/__init__.py"}),
        ("from ..core import rows", {"trimpot/core/rows.py"}),
        ("from . import other", {"trimpot/studies/other.py"}),
        ("from .other import x", {"trimpot/studies/other.py"}),
        ("def f():\n    from trimpot.core.rows import Row", {"trimpot/core/rows.py"}),
        ("if True:\n    import trimpot.core.rows as r", {"trimpot/core/rows.py"}),
        ("import os, torch\nfrom pathlib import Path", set()),
        ("from trimpot.store import ledger", set()),
    ],
)
def test_the_imports_of_a_file(package, tmp_path, line, found):
    package("trimpot/core/rows.py")
    package("trimpot/store/ledger.py")
    package("trimpot/studies/other.py")
    assert names(imports_of(package("trimpot/studies/mine.py", line)), tmp_path) == found


def test_imports_are_followed_and_circles_end(package, tmp_path):
    package("trimpot/core/a.py", "import trimpot.core.b")
    package("trimpot/core/b.py", "import trimpot.core.a")
    package("trimpot/core/c.py")
    mine = package("trimpot/studies/mine.py", "from trimpot.core import a")
    assert names(reached([mine]), tmp_path) == {
        "trimpot/studies/mine.py", "trimpot/core/a.py", "trimpot/core/b.py",
    }  # fmt: skip


def test_a_change_in_what_is_reached_changes_the_hash_and_another_study_does_not(package):
    reach = package("trimpot/core/a.py", "X = 1")
    mine = package("trimpot/studies/mine.py", "import trimpot.core.a")
    before = files_hash(reached([mine]))
    package("trimpot/studies/other.py", "X = 1")
    package("trimpot/studies/__init__.py", "from trimpot.studies import mine, other")
    package("trimpot/core/c.py", "X = 1")
    assert files_hash(reached([mine])) == before
    reach.write_text("X = 2")
    assert files_hash(reached([mine])) != before


def test_a_function_outside_the_package_brings_its_own_file(tmp_path):
    path = tmp_path / "users_study.py"
    path.write_text("from trimpot.core.rows import ChatRow\ndef run(): ...\n")
    spec = importlib.util.spec_from_file_location("users_study", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files = code_of([module.run])["files"]
    assert {"users_study.py", "trimpot/core/rows.py", "trimpot/core/hashing.py"} <= files.keys()


def test_the_shipped_studies_reach_what_they_train_with_and_not_each_other():
    files = code_of([dpo_beta.run])["files"]
    assert {
        "trimpot/studies/dpo_beta.py", "trimpot/studies/subject.py", "trimpot/studies/policy_metrics.py",
        "trimpot/training/loop.py", "trimpot/rollout/engine.py", "trimpot/models/policy.py", "trimpot/core/tensors.py",
        "trimpot/objectives/preference/dpo.py",
    } <= files.keys()  # fmt: skip
    assert not {"trimpot/studies/failure_labs.py", "trimpot/studies/__init__.py"} & files.keys()
    assert not [name for name in files if name.startswith(("trimpot/knobs", "trimpot/store", "trimpot/cli"))]
    assert "trimpot/studies/labs/faults.py" in code_of([failure_labs.run])["files"]
