"""Runbooks: every command parses, every step has one with what to see, and every way leads somewhere."""

import re
import shlex

import pytest
import typer

from trimpot.cli.main import app
from trimpot.detectors import DETECTORS
from trimpot.doctor.checks import CHECKS, check_of
from trimpot.knobs.library import library
from trimpot.preflight.names import CHECK_IDS

NOT_RUNBOOKS = ("README.md",)


@pytest.fixture(scope="session")
def folder(request):
    return request.config.rootpath / "docs/runbooks"


@pytest.fixture(scope="session")
def pages(folder):
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.md"))}


@pytest.fixture(scope="session")
def commands():
    return typer.main.get_command(app)


def written(page):
    """The commands of a page: lines of its bash blocks, and those in its text that are more than a name."""
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return lines + re.findall(r"`(trimpot \w+ [^`]+)`", page)


def parse(line, commands):
    """Parses a command as the program does, without running it."""
    name, *arguments = shlex.split(line)
    assert name == "trimpot", line
    command = commands
    while hasattr(command, "commands"):
        if arguments and arguments[0] in command.commands:
            command, arguments = command.commands[arguments[0]], arguments[1:]
        else:
            # A group that takes what is none of its commands as an argument of its own (trimpot card dpo.beta).
            assert "show" in command.commands, line
            command = command.commands["show"]
    command.make_context(command.name, list(arguments))


def test_there_are_the_five_runbooks_and_an_index_of_them(pages):
    names = ["loss-spike", "metric-disagreement", "reward-hacking", "slow-or-out-of-memory", "training-collapse"]
    assert sorted(pages.keys() - set(NOT_RUNBOOKS)) == [f"{name}.md" for name in names]
    for name in names:
        assert f"({name}.md)" in pages["README.md"]


def test_every_command_parses(pages, commands):
    for name, page in pages.items():
        for line in written(page):
            if line.startswith("trimpot power") and line == "trimpot power":
                continue
            try:
                parse(line, commands)
            # typer carries a click of its own, whose exceptions are no one else's.
            except Exception as error:
                pytest.fail(f"{name}: {line}: {error}")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("trimpot doctor", "Missing parameter: path"),
        ("trimpot doctor RUN --hmtl x", "No such option: --hmtl"),
        ("trimpot run recipe.yaml --dryrun", "No such option: --dryrun"),
        ("trimpot card dpo.beta grpo.kl", "unexpected extra argument"),
        ("trimpot docter RUN", "docter"),
    ],
)
def test_a_command_that_is_none_would_be_seen(commands, line, problem):
    with pytest.raises(Exception, match=problem):
        parse(line, commands)


def test_cards_and_checks_that_commands_name_exist(pages):
    for page in pages.values():
        for line in written(page):
            words = shlex.split(line)
            if words[1] == "card":
                assert words[2] in library().cards, line
            named = [words[place + 1] for place, word in enumerate(words) if word == "--check"]
            assert set(named) <= set(CHECK_IDS), line


def steps_of(page):
    """Number -> text of every step."""
    parts = re.split(r"^## (\d+)\. .*$", page, flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_step_has_a_command_says_what_to_see_and_leads_to_a_step_that_exists(pages):
    for name, page in pages.items():
        if name in NOT_RUNBOOKS:
            continue
        steps = steps_of(page)
        assert list(steps) == list(range(1, len(steps) + 1))
        for number, text in steps.items():
            assert written(text), f"{name}, step {number} has no command"
            assert "See" in text, f"{name}, step {number} does not say what to see"
            targets = {
                int(found) for found in re.findall(r"(?:go to|back to|again at|begin at) (\d+)", text, re.IGNORECASE)
            }
            assert targets <= steps.keys(), f"{name}, step {number}"


def test_every_finding_names_a_runbook_that_tells_of_it(pages):
    for name, kind in DETECTORS.items():
        page = pages[f"{check_of(kind()).runbook}.md"]
        if name in CHECKS:
            assert f"`{name}`" in page, f"{name} is not in its runbook"


def test_links_exist(folder, pages):
    for page in pages.values():
        for link in re.findall(r"\]\(([^)#:]+)\)", page):
            assert (folder / link).exists(), link
