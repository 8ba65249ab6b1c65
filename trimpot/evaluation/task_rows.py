"""Rows of a file as items: templates filled, few-shot examples put before them. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import Message, Origin
from trimpot.core.seeds import stream
from trimpot.data.files import read_records
from trimpot.data.messages import prompt as conversation
from trimpot.evaluation.language_model import Prompt
from trimpot.evaluation.task import Item

Record = Mapping[str, Any]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Asking:
    """How a row is asked: templates (Jinja) over its fields, and names of fields.

    Args:
        prompt: template of a text, or with ``chat`` of the user's turn, after the ``system`` one.
        messages: in its place the field that holds a conversation.
        delimiter: parts the prompt from a choice, and from an example's answer.
        choices: the field that holds the list, or a template for each.
        answer: template of the right answer. answer_index: in its place the field that holds its number among the
            choices, from 0, or its letter.
        slices: fields whose values are slices; each may stand within the row's ``slices`` too.
        cluster: field that items share which are not independent.
        metadata: fields that the scorer reads, beside the row's ``metadata``.
    """

    kind: Literal["choice", "generate", "rolling"]
    prompt: str | None
    messages: str | None
    system: str | None
    chat: bool
    delimiter: str
    choices: str | list[str] | None
    answer: str | None
    answer_index: str | None
    slices: tuple[str, ...]
    cluster: str | None
    metadata: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """A file of rows, and the places (``file:line``) of the keys of the task that reads them."""

    data: str
    lines: Mapping[str, str] = field(default_factory=dict)

    def fault(self, line: int, key: str, problem: str, mend: str) -> UsageError:
        return UsageError(f"{self.data}:{line}: {key}", problem, mend)


@dataclass(frozen=True)
class FewShot:
    """Examples before every item: the first ``count`` rows of ``data`` in an order by ``seed``.

    They are the same for all items, so that they run once, except that an item is never among its own examples: the
    next row then takes its place. ``answer`` is the template of what the examples answer; None: the task's own.
    """

    count: int
    data: str
    seed: int
    separator: str
    answer: str | None


@dataclass(frozen=True)
class Made:
    """Items, the place of the row that each was made of, and the answers of all examples."""

    items: tuple[Item, ...]
    origins: tuple[str, ...]
    few_shot_answers: tuple[str, ...]


@dataclass(frozen=True)
class _Asked:
    """A row as it is asked, before examples: its last turn or text, its choices and its answer."""

    prompt: Prompt
    choices: tuple[str, ...]
    answer: str


def items_of(asking: Asking, rows: Rows, few_shot: FewShot | None, seed: int, count: int | None) -> Made:
    """The items of a file, in its order; with ``count`` so many of them, chosen by ``seed``.

    Raises:
        UsageError: a template that is none, a field that a row has not, an answer that is none of the choices, or
            fewer rows than examples are wanted: one line that names file, row and key.
    """
    filler = _Filler(asking, rows)
    records = list(read_records(rows.data, "evaluation"))
    if not records:
        raise UsageError(rows.data, "holds no rows", "Give at least one.")
    chosen = list(range(len(records)))
    if count is not None:
        stream(seed, "items", rows.data.rsplit("/", 1)[-1]).shuffle(chosen)
        chosen = sorted(chosen[:count])
    examples = [] if few_shot is None else _examples(asking, few_shot, rows)
    items, used = [], set()
    for line, record in (records[place] for place in chosen):
        asked = filler.asked(line, record)
        before = [] if few_shot is None else _before(asked, examples, few_shot, rows.lines)
        used |= {answer for _, answer in before}
        prompt = _with_examples(asked.prompt, before, asking, few_shot)
        items.append(
            Item(
                prompt, asked.choices, asked.answer,
                filler.cluster(line, record), filler.slices(record), filler.metadata(line, record),
            )
        )  # fmt: skip
    origins = tuple(f"{rows.data}:{records[place][0]}" for place in chosen)
    return Made(tuple(items), origins, tuple(sorted(used)))


class _Filler:
    """Fills a task's templates from rows."""

    def __init__(self, asking: Asking, rows: Rows) -> None:
        self.asking, self.rows = asking, rows
        self.environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        named = {"prompt": asking.prompt, "system": asking.system, "answer": asking.answer}
        self.templates = {key: self._template(key, text) for key, text in named.items() if text is not None}
        listed = asking.choices if isinstance(asking.choices, list) else []
        self.choice_templates = [self._template("choices", text) for text in listed]

    def asked(self, line: int, record: Record) -> _Asked:
        asking = self.asking
        choices = tuple(asking.delimiter + one for one in self._choices(line, record))
        return _Asked(self._prompt(line, record), choices, self._answer(line, record, choices))

    def cluster(self, line: int, record: Record) -> str:
        name = self.asking.cluster
        return "" if name is None else str(self._field(line, record, "cluster", name))

    def slices(self, record: Record) -> dict[str, str]:
        """The row's values of the slices; one that it has not, or that is empty, is left out."""
        inner = record.get("slices")
        inner = inner if isinstance(inner, Mapping) else {}
        found = {name: record.get(name, inner.get(name)) for name in self.asking.slices}
        return {name: str(value) for name, value in found.items() if value is not None and str(value) != ""}

    def metadata(self, line: int, record: Record) -> dict[str, Any]:
        inner = record.get("metadata")
        own = dict(inner) if isinstance(inner, Mapping) else {}
        return own | {name: self._field(line, record, "metadata", name) for name in self.asking.metadata}

    def _prompt(self, line: int, record: Record) -> Prompt:
        asking = self.asking
        if asking.messages is not None:
            value = self._field(line, record, "messages", asking.messages)
            return conversation(value, Origin(self.rows.data, line))
        text = self._filled("prompt", self.templates["prompt"], line, record)
        if not text.strip():
            raise self.rows.fault(line, "prompt", "is empty", "Fill the row's fields, or drop it.")
        if not asking.chat:
            return text
        system = self.templates.get("system")
        first = () if system is None else (Message("system", self._filled("system", system, line, record)),)
        return (*first, Message("user", text))

    def _choices(self, line: int, record: Record) -> list[str]:
        asking = self.asking
        if not isinstance(asking.choices, str):
            return [self._filled("choices", template, line, record) for template in self.choice_templates]
        found = self._field(line, record, "choices", asking.choices)
        if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found) or not found:
            raise self.rows.fault(line, asking.choices, "is not a list of texts", 'Give ["a choice", "another"].')
        return list(found)

    def _answer(self, line: int, record: Record, choices: Sequence[str]) -> str:
        asking = self.asking
        if asking.answer_index is not None:
            value = self._field(line, record, "answer_index", asking.answer_index)
            index = LETTERS.find(value) if isinstance(value, str) and len(value) == 1 else value
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(choices):
                problem = f"{value!r} is no number from 0 to {len(choices) - 1}, and no letter of a choice"
                raise self.rows.fault(line, asking.answer_index, problem, "Give the place of the right choice.")
            return choices[index]
        if asking.answer is None:
            return ""
        text = self._filled("answer", self.templates["answer"], line, record)
        if asking.kind != "choice":
            return text
        answer = asking.delimiter + text
        if answer not in choices:
            problem = f"{text!r} is none of the choices"
            raise self.rows.fault(line, "answer", problem, "Give one of them letter by letter, or use answer_index.")
        return answer

    def _field(self, line: int, record: Record, key: str, name: str) -> Any:
        if record.get(name) is None:
            raise self.rows.fault(line, key, f"the row has no field {name!r}", nearest(name, record))
        return record[name]

    def _template(self, key: str, text: str) -> Template:
        try:
            return self.environment.from_string(text)
        except TemplateSyntaxError as error:
            where = f"{self.rows.lines.get(key, self.rows.data)}: {key}"
            raise UsageError(where, f"is no Jinja template ({error.message})", "Mend it.") from error

    def _filled(self, key: str, template: Template, line: int, record: Record) -> str:
        try:
            return template.render(record)
        except UndefinedError as error:
            name = str(error.message).split("'")[1] if "'" in str(error.message) else ""
            raise self.rows.fault(line, key, str(error.message), nearest(name, record)) from error
        except SecurityError as error:
            problem = f"does what a template may not ({error.message})"
            raise self.rows.fault(line, key, problem, "Use the row's fields and plain filters.") from error
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
            problem = f"cannot be filled ({type(error).__name__}: {error})"
            raise self.rows.fault(line, key, problem, "Mend the template or the row.") from error


def _examples(asking: Asking, few_shot: FewShot, rows: Rows) -> list[tuple[_Asked, str]]:
    """All rows of the examples' file in the order by seed: as they are asked, and what they answer."""
    answer = asking.answer if few_shot.answer is None else few_shot.answer
    filler = _Filler(asking, Rows(few_shot.data, rows.lines))
    template = filler._template("few_shot", answer) if answer is not None else None
    records = list(read_records(few_shot.data, "train"))
    stream(few_shot.seed, "few-shot").shuffle(records)
    found = []
    for line, record in records:
        asked = filler.asked(line, record)
        if asking.answer_index is not None and few_shot.answer is None:
            text = asked.answer.removeprefix(asking.delimiter)
        elif template is None:
            where = rows.lines.get("few_shot", rows.data)
            raise UsageError(f"{where}: few_shot", "the examples have no answer", "Give a template as answer.")
        else:
            text = filler._filled("few_shot", template, line, record)
        found.append((asked, text))
    return found


def _before(
    asked: _Asked, examples: Sequence[tuple[_Asked, str]], few_shot: FewShot, lines: Mapping[str, str]
) -> list[tuple[Prompt, str]]:
    """The examples of one item, which is never among them, under whatever choices or answer."""
    others: list[tuple[Prompt, str]] = []
    for example, text in examples:
        if len(others) == few_shot.count:
            break
        if example.prompt != asked.prompt:
            others.append((example.prompt, text))
    if len(others) < few_shot.count:
        where = f"{lines.get('few_shot', few_shot.data)}: few_shot.count"
        problem = f"{few_shot.count} examples wanted, and {few_shot.data} has {len(others)} other rows"
        raise UsageError(where, problem, "Lower it, or add rows.")
    return others


def _with_examples(
    prompt: Prompt, before: Sequence[tuple[Prompt, str]], asking: Asking, few_shot: FewShot | None
) -> Prompt:
    """A text after the examples' texts; a conversation after their turns, under one system turn."""
    if few_shot is None or not before:
        return prompt
    if isinstance(prompt, str):
        texts = [f"{asked}{asking.delimiter}{answer}{few_shot.separator}" for asked, answer in before]
        return "".join(texts) + prompt
    first = tuple(message for message in prompt if message.role == "system")
    turns: list[Message] = []
    for asked, answer in before:
        assert not isinstance(asked, str)
        turns += [message for message in asked if message.role != "system"]
        turns.append(Message("assistant", answer))
    return (*first, *turns, *(message for message in prompt if message.role != "system"))
