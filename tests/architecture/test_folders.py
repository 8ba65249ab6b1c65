"""Every folder says what it is: in its __init__, and in the README's tree, which is made from those."""

import importlib.util

import pytest

DOCSTRING = 120
NOT_OURS = {"runs", "dist", "build"}


@pytest.fixture(scope="module")
def readme_tree(root):
    spec = importlib.util.spec_from_file_location("readme_tree", root / "tools/readme_tree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def undescribed(root, readme_tree):
    """Folders with Python files whose __init__ is missing or does not begin with one line of description."""
    folders = sorted({file.parent for file in (root / "trimpot").rglob("*.py")})
    return [
        folder.relative_to(root).as_posix()
        for folder in folders
        if not 0 < len(readme_tree.description(folder)) <= DOCSTRING
    ]


def test_every_package_folder_describes_itself(root, readme_tree, hold):
    hold("described folders", undescribed(root, readme_tree))


def test_the_tree_in_the_readme_is_current(root, readme_tree):
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text == readme_tree.with_tree(text, readme_tree.tree(root)), "run: python tools/readme_tree.py"


def test_every_top_folder_is_in_the_tree(root, readme_tree):
    folders = {folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")}
    ours = {name for name in folders - NOT_OURS if name.isidentifier() and name != "__pycache__"}
    assert sorted(ours - {"trimpot"} - set(readme_tree.TOP_FOLDERS)) == []


def test_folder_rule_can_fail(tmp_path, readme_tree):
    for name, text in {"good": '"""Good."""\n', "silent": "X = 1\n", "long": f'"""{"x" * 121}"""\n'}.items():
        (tmp_path / "trimpot" / name).mkdir(parents=True)
        (tmp_path / "trimpot" / name / "__init__.py").write_text(text)
    (tmp_path / "trimpot" / "bare").mkdir()
    (tmp_path / "trimpot" / "bare" / "code.py").write_text("X = 1\n")
    assert undescribed(tmp_path, readme_tree) == ["trimpot/bare", "trimpot/long", "trimpot/silent"]


def test_a_new_folder_changes_the_tree(tmp_path, readme_tree):
    for name in ("", "core", "core/inner"):
        (tmp_path / "trimpot" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "trimpot" / name / "__init__.py").write_text('"""Says what it is.\n\nAnd more."""\n')
    (tmp_path / "docs").mkdir()
    lines = readme_tree.tree(tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == ["trimpot/", "core/", "inner/", "docs/"]
    assert lines[1].endswith("Says what it is.")


def test_a_readme_without_markers_is_refused(readme_tree):
    with pytest.raises(ValueError, match="tree"):
        readme_tree.with_tree("# no markers\n", "trimpot/")
