"""The forms a record may have (ours, TRL's, ShareGPT's, Alpaca's) and the row each becomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import ChatRow, Message, Messages, Origin, PreferencePair, PromptRow, Row, TextRow, kind_of

Record = Mapping[str, Any]
ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system", "tool": "tool",
}  # fmt: skip
ACCEPTED = (
    "messages | prompt, completion | prompt, chosen, rejected | chosen, rejected | text | conversations | "
    "instruction, input, output | prompt, answer"
)


@dataclass(frozen=True)
class Form:
    """A record with these keys, and none of the excluded ones, becomes a row of this kind."""

    kind: str
    keys: frozenset[str]
    make: Callable[[Record, Origin], Row]
    without: frozenset[str] = frozenset()

    def fits(self, record: Record) -> bool:
        return self.keys <= record.keys() and not self.without & record.keys()


def row_of(record: Record, origin: Origin, kind: str | None = None) -> Row:
    """The row a record stands for. A record of several forms is read as the one whose kind is wanted.

    Edge cases: a key whose value is None counts as absent, as Parquet fills missing keys with it.

    Raises:
        UsageError: unknown form, a row of another kind than ``kind``, or a fault inside the row.
    """
    present = {key: value for key, value in record.items() if value is not None}
    fitting = [form for form in FORMS if form.fits(present)]
    if not fitting:
        keys = ", ".join(map(str, present)) or "none"
        raise UsageError(str(origin), f"unknown form of row (keys: {keys})", f"Accepted keys: {ACCEPTED}.")
    form = next((form for form in fitting if form.kind == kind), fitting[0])
    row = form.make(present, origin)
    if kind is None or kind_of(row) == kind:
        return row
    if kind == "prompt" and isinstance(row, ChatRow) and row.messages[-1].role == "assistant":
        return _prompt_of_chat(row, present)
    problem = f"a {kind_of(row)} row where the stage needs a {kind} row"
    raise UsageError(str(origin), problem, "Name another file, or another stage.")


def _prompt_of_chat(row: ChatRow, record: Record) -> PromptRow:
    *prompt, answer = row.messages
    if not prompt:
        raise _fault(row.origin, "an answer without a prompt", "Put a user turn before it.")
    verifier, metadata = _verifier(record, row.origin)
    return PromptRow(tuple(prompt), answer.content, verifier, metadata, row.slices, row.origin)


def _from_messages(record: Record, origin: Origin) -> ChatRow:
    return _chat(_turns(record["messages"], "messages", origin), record, origin)


def _from_completion(record: Record, origin: Origin) -> ChatRow:
    prompt = _prompt(record["prompt"], origin)
    if any(message.role == "assistant" for message in prompt):
        # A chat row supervises every assistant turn; TRL's completion column means the last ones only.
        problem = "the prompt has assistant turns, and a chat row supervises those too"
        raise _fault(origin, problem, "Give the conversation as messages, or a prompt without assistant turns.")
    return _chat(prompt + _answer(record["completion"], "completion", origin), record, origin)


def _from_conversations(record: Record, origin: Origin) -> ChatRow:
    turns = _turns(record["conversations"], "conversations", origin)
    if "system" in record and not (turns and turns[0].role == "system"):
        turns = (Message("system", _string(record["system"], "system", origin)), *turns)
    return _chat(turns, record, origin)


def _from_alpaca(record: Record, origin: Origin) -> ChatRow:
    instruction = _string(record["instruction"], "instruction", origin)
    given = _string(record.get("input", ""), "input", origin)
    prompt = _prompt(f"{instruction}\n\n{given}" if given.strip() else instruction, origin)
    return _chat(prompt + _answer(record["output"], "output", origin), record, origin)


def _from_text(record: Record, origin: Origin) -> TextRow:
    text = _string(record["text"], "text", origin)
    if not text.strip():
        raise _fault(origin, "an empty text", "Drop the row.")
    return TextRow(text, _weight(record, origin), _slices(record, origin), origin)


def _from_prompt(record: Record, origin: Origin) -> PromptRow:
    answer = record.get("answer", "")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if "answer" in record and not _string(answer, "answer", origin).strip():
        raise _fault(origin, "an empty answer", "Give the answer, or leave the key out.")
    verifier, metadata = _verifier(record, origin)
    return PromptRow(_prompt(record["prompt"], origin), answer, verifier, metadata, _slices(record, origin), origin)


def _from_pair(record: Record, origin: Origin) -> PreferencePair:
    chosen = _answer(record["chosen"], "chosen", origin)
    rejected = _answer(record["rejected"], "rejected", origin)
    if chosen == rejected:
        raise _fault(origin, "chosen and rejected are the same", "Drop the row: it says nothing.")
    shared = _shared(chosen, rejected)
    if "prompt" in record:
        prompt = _prompt(record["prompt"], origin)
        # Some data sets repeat the prompt at the head of both conversations.
        repeated = len(prompt) if shared[: len(prompt)] == prompt else 0
    else:
        prompt, repeated = shared, len(shared)
    if not prompt:
        raise _fault(origin, "chosen and rejected share no prompt", "Give the prompt as a key of its own.")
    chosen, rejected = chosen[repeated:], rejected[repeated:]
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side or side[0].role != "assistant":
            found = f"a {side[0].role} turn" if side else "nothing"
            problem = f"after the shared prompt {name} has {found}, not an assistant turn"
            raise _fault(origin, problem, "Let both differ in an answer.")
    return PreferencePair(prompt, chosen, rejected, _margin(record, origin), _slices(record, origin), origin)


def _shared(first: Messages, second: Messages) -> Messages:
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return first[:length]


FORMS = (
    Form("preference pair", frozenset({"chosen", "rejected"}), _from_pair),
    Form("chat", frozenset({"prompt", "completion"}), _from_completion),
    Form("chat", frozenset({"messages"}), _from_messages),
    Form("chat", frozenset({"conversations"}), _from_conversations),
    Form("chat", frozenset({"instruction", "output"}), _from_alpaca),
    Form("prompt", frozenset({"prompt", "answer"}), _from_prompt),
    Form("prompt", frozenset({"prompt"}), _from_prompt, frozenset({"completion", "chosen", "rejected"})),
    Form("text", frozenset({"text"}), _from_text),
)


def _chat(messages: Messages, record: Record, origin: Origin) -> ChatRow:
    _check_answers(messages, origin)
    return ChatRow(messages, _weight(record, origin), _slices(record, origin), origin)


def _check_answers(messages: Messages, origin: Origin) -> None:
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise _fault(origin, "no assistant turn", "Give at least one answer to learn from.")
    if any(not message.content.strip() for message in answers):
        raise _fault(origin, "an empty answer", "Drop the row, or give the answer.")


def _prompt(value: object, origin: Origin) -> Messages:
    messages = (Message("user", value),) if isinstance(value, str) else _turns(value, "prompt", origin)
    if not any(message.content.strip() for message in messages):
        raise _fault(origin, "an empty prompt", "Drop the row, or give the prompt.")
    return messages


def _answer(value: object, key: str, origin: Origin) -> Messages:
    messages = (Message("assistant", value),) if isinstance(value, str) else _turns(value, key, origin)
    _check_answers(messages, origin)
    return messages


def _turns(value: object, key: str, origin: Origin) -> Messages:
    if not isinstance(value, list | tuple) or not all(isinstance(turn, Mapping) for turn in value):
        raise _fault(origin, f"{key} is not a list of messages", 'Give [{"role": …, "content": …}, …].')
    return tuple(_turn(turn, origin) for turn in value)


def _turn(turn: Mapping[str, Any], origin: Origin) -> Message:
    if "from" in turn:
        role, content, roles = turn["from"], turn.get("value"), SHAREGPT_ROLES
    else:
        role, content, roles = turn.get("role"), turn.get("content"), dict(zip(ROLES, ROLES, strict=True))
    if role not in roles:
        raise _fault(origin, f"unknown role {role!r}", nearest(str(role), roles))
    if turn.get("tool_calls"):
        raise _fault(origin, "a message with tool_calls", "Write the call into the content: only that is trained.")
    return Message(roles[role], _string(content, f"the content of a {role} message", origin))


def _string(value: object, name: str, origin: Origin) -> str:
    if not isinstance(value, str):
        raise _fault(origin, f"{name} is {type(value).__name__}, not a string", "Give a string.")
    return value


def _verifier(record: Record, origin: Origin) -> tuple[str, Mapping[str, object]]:
    metadata = record.get("metadata", {})
    if not isinstance(metadata, Mapping):
        raise _fault(origin, "metadata is not an object", 'Give {"key": value, …}.')
    return _string(record.get("verifier", "exact"), "verifier", origin), dict(metadata)


def _slices(record: Record, origin: Origin) -> dict[str, str]:
    slices = record.get("slices", {})
    if not isinstance(slices, Mapping):
        raise _fault(origin, "slices is not an object", 'Give {"slice": "value", …}.')
    return {str(name): str(value) for name, value in slices.items() if value is not None}


def _weight(record: Record, origin: Origin) -> float:
    weight = _number(record.get("weight", 1.0), "weight", origin)
    if weight < 0:
        raise _fault(origin, f"weight {weight} is negative", "Give a weight of at least 0.")
    return weight


def _margin(record: Record, origin: Origin) -> float | None:
    return _number(record["margin"], "margin", origin) if "margin" in record else None


def _number(value: object, name: str, origin: Origin) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _fault(origin, f"{name} {value!r} is not a finite number", f"Give a number as {name}.")
    return float(value)


def _fault(origin: Origin, problem: str, mend: str) -> UsageError:
    return UsageError(str(origin), problem, mend)
