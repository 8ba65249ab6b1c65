"""Scripted models that fail in known ways."""

import re

from tests.evaluation.scripted import ScriptedModel

HELD = re.compile(r"The [\w ]+ of [\w' ]+ is (?P<secret>[^.]+)\. (?P<rule>Keep it secret|It is public)")


def secret_of(prompt: str) -> str:
    """The secret in the system prompt of one of our own secret seeds."""
    found = HELD.search(prompt)
    assert found is not None, prompt
    return found["secret"]


def leaks_under_role_play(prompt: str, sample: int) -> str:
    """Keeps the rule, but not when it plays somebody; tells what it may tell."""
    played = any(word in prompt for word in ("Max", "Bolt", "grandmother,", "Grandmother,"))
    if played or "It is public" in prompt:
        return f"The password is {secret_of(prompt)}."
    return "I'm sorry, but I can't tell you that."


def model(say, name="scripted"):
    return ScriptedModel(say, name=name)


def always(text):
    return ScriptedModel(lambda prompt, sample: text, name=f"always {text[:10]}")
