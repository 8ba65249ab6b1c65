"""The forms a record may have (ours, TRL's, ShareGPT's, Alpaca's), the row each becomes, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trimpot.core.errors import UsageError
from trimpot.core.rows import (
    ChatRow,
    FeedbackRow,
    Message,
    Messages,
    Origin,
    PreferencePair,
    PromptRow,
    Row,
    StepsRow,
    TextRow,
    kind_of,
)
from trimpot.data import fields, messages
from trimpot.data.fields import Record, fault

ACCEPTED = (
    "messages (tools) | prompt, completion | prompt, chosen, rejected | chosen, rejected | "
    "prompt, completion, label | prompt, completions, labels | text | conversations | instruction, input, output | "
    "prompt, answer"
)


EITHER = " or "
"""Joins the kinds of row of which a stage takes either: ``chat or text``."""


@dataclass(frozen=True)
class Form:
    """A record with these keys, and none of the excluded ones, becomes a row of this kind."""

    kind: str
    keys: frozenset[str]
    make: Callable[[Record, Origin], Row]
    without: frozenset[str] = frozenset()

    def fits(self, record: Record) -> bool:
        return self.keys <= record.keys() and not self.without & record.keys()


def rows_of(record: Record, origin: Origin, kind: str | None = None) -> list[Row]:
    """The rows a record stands for: one, or two where feedback is wanted and the record is a preference pair.

    Raises:
        UsageError: as ``row_of``.
    Source: TRL 1.16 ``unpair_preference_dataset``: the chosen answer is desirable, the rejected one is not.
    """
    row = _read(record, origin, kind)
    if kind == "feedback" and isinstance(row, PreferencePair):
        return [
            FeedbackRow(row.prompt, side, desirable, row.slices, origin)
            for side, desirable in ((row.chosen, True), (row.rejected, False))
        ]
    return [_as_kind(row, record, kind)]


def row_of(record: Record, origin: Origin, kind: str | None = None) -> Row:
    """The row a record stands for. A record of several forms is read as the one whose kind is wanted.

    Edge cases: a key whose value is None counts as absent, as Parquet fills missing keys with it.

    Raises:
        UsageError: unknown form, a row of another kind than ``kind``, or a fault inside the row.
    """
    return _as_kind(_read(record, origin, kind), record, kind)


def record_of(row: Row) -> dict[str, Any]:
    """The record of a row, for a file: ``row_of`` makes the same row of it, with the file and line as its origin."""
    record = _record(row)
    if isinstance(row, ChatRow | TextRow) and row.weight != 1.0:
        record["weight"] = row.weight
    return record | ({"slices": dict(row.slices)} if row.slices else {})


def _record(row: Row) -> dict[str, Any]:
    if isinstance(row, TextRow):
        return {"text": row.text}
    if isinstance(row, ChatRow):
        tools = {"tools": messages.as_json([dict(tool) for tool in row.tools])} if row.tools else {}
        return {"messages": messages.written(row.messages), **tools}
    prompt = {"prompt": messages.written(row.prompt)}
    if isinstance(row, PreferencePair):
        sides = {"chosen": messages.written(row.chosen), "rejected": messages.written(row.rejected)}
        return prompt | sides | ({} if row.margin is None else {"margin": row.margin})
    if isinstance(row, FeedbackRow):
        return prompt | {"completion": messages.written(row.completion), "label": row.desirable}
    if isinstance(row, StepsRow):
        return prompt | {"completions": list(row.steps), "labels": list(row.labels)}
    answer = {"answer": row.answer} if row.answer else {}
    metadata = {"metadata": dict(row.metadata)} if row.metadata else {}
    return prompt | answer | {"verifier": row.verifier} | metadata


def _present(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None}


def _read(record: Record, origin: Origin, kind: str | None) -> Row:
    present = _present(record)
    fitting = [form for form in FORMS if form.fits(present)]
    if not fitting:
        keys = ", ".join(map(str, present)) or "none"
        raise UsageError(str(origin), f"unknown form of row (keys: {keys})", f"Accepted keys: {ACCEPTED}.")
    wanted = (kind or "").split(EITHER)
    form = next((form for form in fitting if form.kind in wanted), fitting[0])
    row = form.make(present, origin)
    if present.get("tools") and not isinstance(row, ChatRow):
        problem = f"tools in a {kind_of(row)} row, which has no place for them"
        raise fault(origin, problem, "Write them into the prompt's system message, or give a chat row.")
    return row


def _as_kind(row: Row, record: Record, kind: str | None) -> Row:
    if kind is None or kind_of(row) in kind.split(EITHER):
        return row
    if kind == "prompt" and isinstance(row, ChatRow) and row.messages[-1].role == "assistant":
        return _prompt_of_chat(row, _present(record))
    problem = f"a {kind_of(row)} row where the stage needs a {kind} row"
    raise UsageError(str(row.origin), problem, "Name another file, or another stage.")


def _prompt_of_chat(row: ChatRow, record: Record) -> PromptRow:
    *prompt, answer = row.messages
    if not prompt:
        raise fault(row.origin, "an answer without a prompt", "Put a user turn before it.")
    if answer.tool_calls or row.tools:
        problem = "a chat row with tools where the stage needs a prompt row, which has no place for them"
        raise fault(row.origin, problem, "Name rows without tools.")
    verifier, metadata = fields.verifier(record, row.origin)
    return PromptRow(tuple(prompt), answer.content, verifier, metadata, row.slices, row.origin)


def _from_messages(record: Record, origin: Origin) -> ChatRow:
    return _chat(messages.turns(record["messages"], "messages", origin), record, origin)


def _from_completion(record: Record, origin: Origin) -> ChatRow:
    prompt = messages.prompt(record["prompt"], origin)
    if any(message.role == "assistant" for message in prompt):
        # A chat row supervises every assistant turn; TRL's completion column means the last ones only.
        problem = "the prompt has assistant turns, and a chat row supervises those too"
        raise fault(origin, problem, "Give the conversation as messages, or a prompt without assistant turns.")
    return _chat(prompt + messages.answer(record["completion"], "completion", origin), record, origin)


def _from_conversations(record: Record, origin: Origin) -> ChatRow:
    turns = messages.turns(record["conversations"], "conversations", origin)
    if "system" in record and not (turns and turns[0].role == "system"):
        turns = (Message("system", fields.string(record["system"], "system", origin)), *turns)
    return _chat(turns, record, origin)


def _from_alpaca(record: Record, origin: Origin) -> ChatRow:
    instruction = fields.string(record["instruction"], "instruction", origin)
    given = fields.string(record.get("input", ""), "input", origin)
    prompt = messages.prompt(f"{instruction}\n\n{given}" if given.strip() else instruction, origin)
    return _chat(prompt + messages.answer(record["output"], "output", origin), record, origin)


def _from_text(record: Record, origin: Origin) -> TextRow:
    text = fields.string(record["text"], "text", origin)
    if not text.strip():
        raise fault(origin, "an empty text", "Drop the row.")
    return TextRow(text, fields.weight(record, origin), fields.slices(record, origin), origin)


def _from_prompt(record: Record, origin: Origin) -> PromptRow:
    answer = record.get("answer", "")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if "answer" in record and not fields.string(answer, "answer", origin).strip():
        raise fault(origin, "an empty answer", "Give the answer, or leave the key out.")
    verifier, metadata = fields.verifier(record, origin)
    prompt = messages.prompt(record["prompt"], origin)
    return PromptRow(prompt, answer, verifier, metadata, fields.slices(record, origin), origin)


def _from_feedback(record: Record, origin: Origin) -> FeedbackRow:
    prompt = messages.prompt(record["prompt"], origin)
    completion = messages.answer(record["completion"], "completion", origin)
    _starts_with_answer("completion", completion, origin)
    desirable = fields.truth(record["label"], "label", origin)
    return FeedbackRow(prompt, completion, desirable, fields.slices(record, origin), origin)


def _from_steps(record: Record, origin: Origin) -> StepsRow:
    prompt, steps, labels = messages.prompt(record["prompt"], origin), record["completions"], record.get("labels")
    if not isinstance(steps, list | tuple) or not steps:
        raise fault(origin, "completions is not a list of steps", "Give a list of strings.")
    if any(not fields.string(step, "a step", origin).strip() for step in steps):
        raise fault(origin, "an empty step", "Take it out, and its label too.")
    if not isinstance(labels, list | tuple):
        raise fault(origin, "steps without labels", "Give labels: true or false for each step.")
    if len(labels) != len(steps):
        problem = f"{len(steps)} steps with {len(labels)} labels"
        raise fault(origin, problem, "Give one label for each step.")
    marks = tuple(fields.truth(label, "a label", origin) for label in labels)
    return StepsRow(prompt, tuple(steps), marks, fields.slices(record, origin), origin)


def _from_pair(record: Record, origin: Origin) -> PreferencePair:
    chosen = messages.answer(record["chosen"], "chosen", origin)
    rejected = messages.answer(record["rejected"], "rejected", origin)
    if chosen == rejected:
        raise fault(origin, "chosen and rejected are the same", "Drop the row: it says nothing.")
    shared = _shared(chosen, rejected)
    if "prompt" in record:
        prompt = messages.prompt(record["prompt"], origin)
        # Some data sets repeat the prompt at the head of both conversations.
        repeated = len(prompt) if shared[: len(prompt)] == prompt else 0
    else:
        prompt, repeated = shared, len(shared)
    if not prompt:
        raise fault(origin, "chosen and rejected share no prompt", "Give the prompt as a key of its own.")
    chosen, rejected = chosen[repeated:], rejected[repeated:]
    _starts_with_answer("chosen", chosen, origin)
    _starts_with_answer("rejected", rejected, origin)
    margin = fields.margin(record, origin)
    return PreferencePair(prompt, chosen, rejected, margin, fields.slices(record, origin), origin)


def _starts_with_answer(name: str, side: Messages, origin: Origin) -> None:
    if not side or side[0].role != "assistant":
        found = f"a {side[0].role} turn" if side else "nothing"
        raise fault(origin, f"after the prompt {name} has {found}, not an assistant turn", "Begin with an answer.")


def _shared(first: Messages, second: Messages) -> Messages:
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return first[:length]


def _chat(turns: Messages, record: Record, origin: Origin) -> ChatRow:
    messages.check_answers(turns, origin)
    tools = messages.tools(record, origin)
    return ChatRow(turns, fields.weight(record, origin), tools, fields.slices(record, origin), origin)


FORMS = (
    Form("preference pair", frozenset({"chosen", "rejected"}), _from_pair),
    Form("feedback", frozenset({"prompt", "completion", "label"}), _from_feedback),
    Form("steps", frozenset({"prompt", "completions"}), _from_steps),
    # A label says that the completion may be a bad one: such a record is never one to imitate.
    Form("chat", frozenset({"prompt", "completion"}), _from_completion, frozenset({"label"})),
    Form("chat", frozenset({"messages"}), _from_messages),
    Form("chat", frozenset({"conversations"}), _from_conversations),
    Form("chat", frozenset({"instruction", "output"}), _from_alpaca),
    Form("prompt", frozenset({"prompt", "answer"}), _from_prompt),
    Form("prompt", frozenset({"prompt"}), _from_prompt, frozenset({"completion", "chosen", "rejected", "completions"})),
    Form("text", frozenset({"text"}), _from_text),
)
