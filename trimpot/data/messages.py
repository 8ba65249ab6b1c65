"""Messages, tool calls and tools as records have them, and as they are written back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trimpot.core.errors import nearest
from trimpot.core.rows import Message, Messages, Origin
from trimpot.data.fields import Record, fault, string

ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system", "tool": "tool",
}  # fmt: skip
CALL_MEND = 'Give {"function": {"name": …, "arguments": {…}}}.'


def turns(value: object, key: str, origin: Origin) -> Messages:
    """A list of messages, each {"role", "content"} or ShareGPT's {"from", "value"}."""
    if not isinstance(value, list | tuple) or not all(isinstance(turn, Mapping) for turn in value):
        raise fault(origin, f"{key} is not a list of messages", 'Give [{"role": …, "content": …}, …].')
    return tuple(_turn(turn, origin) for turn in value)


def prompt(value: object, origin: Origin) -> Messages:
    """A string, which is the user's, or a list of messages."""
    messages = (Message("user", value),) if isinstance(value, str) else turns(value, "prompt", origin)
    if not any(message.content.strip() for message in messages):
        raise fault(origin, "an empty prompt", "Drop the row, or give the prompt.")
    return messages


def answer(value: object, key: str, origin: Origin) -> Messages:
    """A string, which is the assistant's, or a list of messages with an answer in it."""
    messages = (Message("assistant", value),) if isinstance(value, str) else turns(value, key, origin)
    check_answers(messages, origin)
    return messages


def check_answers(messages: Messages, origin: Origin) -> None:
    """Refuses messages without an answer, or with one that has neither content nor tool calls."""
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise fault(origin, "no assistant turn", "Give at least one answer to learn from.")
    if any(not message.content.strip() and not message.tool_calls for message in answers):
        raise fault(origin, "an empty answer", "Drop the row, or give the answer.")


def tools(record: Record, origin: Origin) -> tuple[Mapping[str, Any], ...]:
    """The functions of the record's ``tools``: a list of JSON schemas, or that list as a JSON string.

    Edge cases: keys whose value is None are left out of a list, as Parquet fills missing keys with it; a JSON string is
    taken as it is.
    """
    value = record.get("tools", ())
    found = _parsed(value, "tools", origin) if isinstance(value, str) else _without_none(value)
    if not isinstance(found, list | tuple) or not all(isinstance(tool, dict) for tool in found):
        raise fault(origin, "tools is not a list of functions", "Give a list of JSON schemas.")
    return tuple(found)


def written(messages: Messages) -> list[dict[str, Any]]:
    """Messages for a file: the arguments of calls are JSON strings, which survive every format of file."""
    found = []
    for message in messages:
        turn = message.as_dict()
        if message.tool_calls:
            turn["tool_calls"] = with_written_arguments(turn["tool_calls"])
        found.append(turn)
    return found


def with_written_arguments(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls with their arguments as JSON strings."""
    return [
        {**call, "function": {**call["function"], "arguments": as_json(call["function"]["arguments"])}}
        for call in calls
    ]


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _turn(turn: Mapping[str, Any], origin: Origin) -> Message:
    if "from" in turn:
        role, content, roles = turn["from"], turn.get("value"), SHAREGPT_ROLES
    else:
        role, content, roles = turn.get("role"), turn.get("content"), dict(zip(ROLES, ROLES, strict=True))
    if role not in roles:
        raise fault(origin, f"unknown role {role!r}", nearest(str(role), roles))
    calls = _tool_calls(turn.get("tool_calls"), origin)
    if calls and roles[role] != "assistant":
        raise fault(origin, f"tool calls in a {role} message", "Only an assistant message calls tools.")
    content = "" if content is None and calls else string(content, f"the content of the {role} message", origin)
    if roles[role] != "tool":
        return Message(roles[role], content, calls)
    name, answered = (
        None if turn.get(key) is None else string(turn[key], f"the {key} of the tool message", origin)
        for key in ("name", "tool_call_id")
    )
    return Message("tool", content, (), name, answered)


def _tool_calls(value: object, origin: Origin) -> tuple[Mapping[str, Any], ...]:
    if not value:
        return ()
    if not isinstance(value, list | tuple):
        raise fault(origin, "tool_calls is not a list", CALL_MEND)
    return tuple(_tool_call(call, origin) for call in value)


def _tool_call(call: object, origin: Origin) -> dict[str, Any]:
    """One call in OpenAI's form; a bare {"name", "arguments"} is put into it. Arguments become an object."""
    function = (call.get("function") or call) if isinstance(call, Mapping) else None
    if (
        not isinstance(call, Mapping)
        or not isinstance(function, Mapping)
        or not isinstance(function.get("name"), str)
        or not function["name"].strip()
    ):
        raise fault(origin, "a tool call without a function name", CALL_MEND)
    name, given = function["name"], function.get("arguments")
    if isinstance(given, str):
        arguments = _parsed(given, f"the arguments of {name}", origin) if given.strip() else {}
    else:
        arguments = {} if given is None else _without_none(given)
    if not isinstance(arguments, dict):
        raise fault(origin, f"the arguments of {name} are not an object", CALL_MEND)
    made: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if call.get("id") is not None:
        made["id"] = string(call["id"], "the id of a tool call", origin)
    return made


def _parsed(text: str, name: str, origin: Origin) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"{name}: malformed JSON at column {error.colno}: {error.msg}"
        raise fault(origin, problem, "Give a JSON object, or its text.") from error


def _without_none(value: Any) -> Any:
    """The value without the keys that say None, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value
