"""What the README shows works: its recipe, its commands, its links."""

import re

import pytest
import typer
import yaml

from trimpot.core.errors import UsageError
from trimpot.recipe.read import build_recipe


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def recipe_text(readme):
    (text,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    return text


def test_the_recipe_is_valid(recipe_text):
    recipe = build_recipe(yaml.safe_load(recipe_text), "README.md")
    assert [stage.name for stage in recipe.stages] == ["sft", "preference", "policy_gradient"]
    assert recipe.evaluate is not None
    assert len(recipe_text.splitlines()) <= 20


def test_a_wrong_recipe_would_be_seen(recipe_text):
    with pytest.raises(UsageError, match="beta"):
        build_recipe(yaml.safe_load(recipe_text.replace("beta:", "betta:")), "README.md")


def test_the_overrides_are_valid(readme, recipe_text):
    overrides = re.findall(r"--set (\w+\.\w+=[\d.]+)", readme)
    assert overrides
    build_recipe(yaml.safe_load(recipe_text), "README.md", overrides)


def test_the_table_has_the_commands_and_no_others(readme):
    from trimpot.cli.main import app

    commands = typer.main.get_command(app).commands
    table = re.findall(r"^\| `trimpot (\w+)[^|]*\|(.*)\|$", readme, re.MULTILINE)
    assert sorted(name for name, _ in table) == sorted(commands)
    for name, text in table:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", text)) <= options


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_and_pictures_exist(root, name):
    file = root / name
    links = re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8"))
    assert [link for link in links if not (file.parent / link).exists()] == []
