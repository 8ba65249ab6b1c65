"""Rows: what a line of training or evaluation data is. A row's id is a hash of its content, never of its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trimpot.core.hashing import content_hash


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. ``role`` is system, user, assistant or tool.

    ``tool_calls`` are those of an assistant turn, as the chat template reads them (OpenAI's form); ``name`` and
    ``tool_call_id`` say which call a tool turn answers.
    """

    role: str
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    name: str | None = None
    tool_call_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The turn as templates and files have it; keys that say nothing are left out."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            turn["tool_calls"] = [dict(call) for call in self.tool_calls]
        for key in ("name", "tool_call_id"):
            if getattr(self, key) is not None:
                turn[key] = getattr(self, key)
        return turn


@dataclass(frozen=True)
class Origin:
    """Where a row came from: file and line (1-based), or the ids of the rows it was made of."""

    file: str | None = None
    line: int | None = None
    parents: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.file is None:
            return "row made from " + ", ".join(self.parents) if self.parents else "row"
        return self.file if self.line is None else f"{self.file}:{self.line}"


Messages = tuple[Message, ...]
NO_ORIGIN = Origin()


def _dump(messages: Messages) -> list[dict[str, Any]]:
    return [message.as_dict() for message in messages]


@dataclass(frozen=True)
class ChatRow:
    """A conversation to imitate; assistant turns are supervised. ``weight`` multiplies its tokens' loss.

    ``tools`` are the functions the model may call, as JSON schemas; the chat template writes them out.
    """

    messages: Messages
    weight: float = 1.0
    tools: tuple[Mapping[str, Any], ...] = ()
    slices: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = NO_ORIGIN

    @property
    def id(self) -> str:
        tools = [[dict(tool) for tool in self.tools]] if self.tools else []
        return content_hash(["chat", _dump(self.messages), self.weight, *tools])


@dataclass(frozen=True)
class PreferencePair:
    """One prompt, a chosen and a rejected continuation. ``margin`` (reward model only) in reward units."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    margin: float | None = None
    slices: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = NO_ORIGIN

    @property
    def id(self) -> str:
        return content_hash(["pair", _dump(self.prompt), _dump(self.chosen), _dump(self.rejected), self.margin])


@dataclass(frozen=True)
class FeedbackRow:
    """One answer to a prompt that somebody found good (``desirable``) or bad: a preference without a pair."""

    prompt: Messages
    completion: Messages
    desirable: bool
    slices: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = NO_ORIGIN

    @property
    def id(self) -> str:
        return content_hash(["feedback", _dump(self.prompt), _dump(self.completion), self.desirable])


@dataclass(frozen=True)
class StepsRow:
    """A solution in steps, each labelled right or wrong: what a process reward model learns from."""

    prompt: Messages
    steps: tuple[str, ...]
    labels: tuple[bool, ...]
    slices: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = NO_ORIGIN

    @property
    def id(self) -> str:
        return content_hash(["steps", _dump(self.prompt), list(self.steps), list(self.labels)])


@dataclass(frozen=True)
class PromptRow:
    """A prompt whose completions are scored: by the named verifier against ``answer``.

    ``verifier`` is a name of ``trimpot.rollout.verifiers`` or ``file.py:function``; ``metadata`` is what it needs.
    """

    prompt: Messages
    answer: str = ""
    verifier: str = "exact"
    metadata: Mapping[str, object] = field(default_factory=dict)
    slices: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = NO_ORIGIN

    @property
    def id(self) -> str:
        return content_hash(["prompt", _dump(self.prompt), self.answer, self.verifier])


@dataclass(frozen=True)
class TextRow:
    """Plain text; every token but the first is supervised."""

    text: str
    weight: float = 1.0
    slices: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = NO_ORIGIN

    @property
    def id(self) -> str:
        return content_hash(["text", self.text, self.weight])


Row = ChatRow | PreferencePair | FeedbackRow | StepsRow | PromptRow | TextRow
KINDS: dict[str, type] = {
    "chat": ChatRow,
    "preference pair": PreferencePair,
    "feedback": FeedbackRow,
    "steps": StepsRow,
    "prompt": PromptRow,
    "text": TextRow,
}


def kind_of(row: Row) -> str:
    """The name of a row's kind, as error lines use it."""
    return next(name for name, kind in KINDS.items() if isinstance(row, kind))
