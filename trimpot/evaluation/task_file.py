"""Task files: tasks in YAML over a local file of rows. Every key is checked, with its line. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.evaluation.suite import Suite
from trimpot.evaluation.task import Decoding, Task
from trimpot.evaluation.task_rows import Asking, FewShot, Rows, items_of

TEXTS, LIST, WHOLE, NUMBER, TRUTH = "a text", "a list of texts", "a whole number", "a number", "true or false"
MAPPING, TASKS = "keys of its own", "a list of tasks"
TASK_KEYS: dict[str, tuple[str, ...]] = {
    "name": (TEXTS,), "data": (TEXTS,), "kind": (TEXTS,), "metric_group": (TEXTS,), "version": (TEXTS,),
    "prompt": (TEXTS,), "messages": (TEXTS,), "system": (TEXTS,), "chat": (TRUTH,), "delimiter": (TEXTS,),
    "choices": (TEXTS, LIST), "answer": (TEXTS,), "answer_index": (TEXTS,),
    "slices": (LIST,), "cluster": (TEXTS,), "metadata": (LIST,), "few_shot": (MAPPING,),
    "scorer": (TEXTS,), "stop": (LIST,), "max_tokens": (WHOLE,), "temperature": (NUMBER,), "samples": (WHOLE,),
    "score_unfinished": (TRUTH,),
}  # fmt: skip
"""The keys of a task and what each takes."""
FEW_SHOT_KEYS = {
    "count": (WHOLE,), "data": (TEXTS,), "seed": (WHOLE,), "separator": (TEXTS,), "answer": (TEXTS,),
}  # fmt: skip
TOP_KEYS = {"about": (TEXTS,), "tasks": (TASKS,)}
KINDS = ("choice", "generate", "rolling")
AT_LEAST = {"max_tokens": 1, "samples": 1, "temperature": 0, "count": 0}


@dataclass(frozen=True)
class FileTask:
    """A task of a file, and where it came from: ``lines`` of its keys as ``file:line``, ``origins`` of its items.

    ``few_shot_answers`` are the answers of the examples that stand before the items.
    """

    task: Task
    where: str
    lines: Mapping[str, str]
    origins: tuple[str, ...]
    slices: tuple[str, ...] = ()
    few_shot_answers: tuple[str, ...] = ()

    def place(self, key: str) -> str:
        """Where a key stands, as ``file:line: key``; the task where it is not given."""
        return f"{self.lines[key]}: {key}" if key in self.lines else f"{self.where}: {key}"


@dataclass(frozen=True)
class _Keys:
    """A mapping of the file: its values, and the line of every key."""

    file: str
    line: int
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def fault(self, key: str, problem: str, mend: str) -> UsageError:
        return UsageError(f"{self.file}:{self.lines.get(key, self.line)}: {key}", problem, mend)

    def check(self, known: Mapping[str, Sequence[str]]) -> None:
        """Refuses unknown keys and values of a wrong form."""
        for key, value in self.values.items():
            if key not in known:
                raise self.fault(str(key), "is not a key of a task", nearest(str(key), known))
            if not any(_is(value, form) for form in known[key]):
                # YAML reads an unquoted yes as true and 1 as a number.
                quoted = ", in quotes" if TEXTS in known[key] else ""
                raise self.fault(key, f"{value!r} is not {' or '.join(known[key])}", f"Give {known[key][0]}{quoted}.")
            if key in AT_LEAST and value < AT_LEAST[key]:
                raise self.fault(key, f"{value} is out of range", f"Give at least {AT_LEAST[key]}.")


def read_task_file(path: str | Path) -> Suite:
    """A task file as a suite.

    The seed chooses which items are asked where fewer are wanted than there are; those of fewer are among more.

    Raises:
        UsageError: no such file, malformed YAML, an unknown key (with the nearest one), a value of a wrong form: one
            line that names file, line and key. What is wrong with rows is said when the suite is built.
    """
    file = Path(path)
    top, parts = _parts(file)

    def build(seed: int, items: int | None) -> list[Task]:
        return [_task(part, file, seed, items).task for part in parts]

    return Suite(file.stem, str(top.values.get("about", f"tasks of {file}")), build)


def load_tasks(path: str | Path, seed: int = 0, items: int | None = None) -> list[FileTask]:
    """The tasks of a file with the places they came from, for messages: see read_task_file and FileTask.

    Raises:
        UsageError: as read_task_file; or rows that cannot be read, or lack what the task reads of them.
    """
    return [_task(part, Path(path), seed, items) for part in _parts(Path(path))[1]]


def _parts(file: Path) -> tuple[_Keys, list[_Keys]]:
    """What stands at the top, and the mapping of every task; a file of one task may be that task itself."""
    root = _parsed(file)
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(str(file), "is not a mapping of keys", f"Start with one of: {', '.join(TASK_KEYS)}.")
    top = _keys(root, file)
    if "tasks" not in top.values:
        return _one(top, top)
    top.check(TOP_KEYS)
    (node,) = [value for key, value in root.value if key.value == "tasks"]
    if not node.value or not all(isinstance(one, yaml.MappingNode) for one in node.value):
        raise top.fault("tasks", "is not a list of tasks", "List at least one: '- name: …'.")
    parts = [_keys(one, file) for one in node.value]
    for part in parts:
        _check(part)
    return top, parts


def _one(top: _Keys, part: _Keys) -> tuple[_Keys, list[_Keys]]:
    values = {key: value for key, value in part.values.items() if key != "about"}
    only = _Keys(part.file, part.line, values, part.lines)
    if "about" in top.values and not isinstance(top.values["about"], str):
        raise top.fault("about", "is not a text", "Give a text.")
    _check(only)
    return top, [only]


def _check(part: _Keys) -> None:
    part.check(TASK_KEYS)
    given = part.values
    for key in ("data", "scorer"):
        if key not in given:
            raise part.fault(key, "is missing", "Every task names its rows and what scores it.")
    kind = _kind(given)
    if kind not in KINDS:
        raise part.fault("kind", f"{kind!r} is unknown", nearest(kind, KINDS))
    if ("prompt" in given) == ("messages" in given):
        problem = "is given beside messages" if "prompt" in given else "is missing"
        raise part.fault("prompt", problem, "Give a template as prompt, or the field of a conversation as messages.")
    if "answer" in given and "answer_index" in given:
        raise part.fault("answer_index", "is given beside answer", "Give one of the two.")
    for key, wanted in {"choices": "choice", "answer_index": "choice", "stop": "generate"}.items():
        if key in given and kind != wanted:
            raise part.fault(key, f"belongs to {wanted} tasks, and this is a {kind} task", "Take it out.")
    if kind == "choice" and "choices" not in given:
        raise part.fault("choices", "is missing", "Give the field that holds the list, or a list of templates.")
    if "system" in given and not given.get("chat", False):
        raise part.fault("system", "needs a conversation", "Add 'chat: true'.")
    if "few_shot" in given:
        _few_shot_keys(part).check(FEW_SHOT_KEYS)


def _task(part: _Keys, file: Path, seed: int, items: int | None) -> FileTask:
    given, kind = part.values, _kind(part.values)
    name = str(given.get("name", file.stem))
    asking = Asking(
        kind=kind,
        prompt=given.get("prompt"),
        messages=given.get("messages"),
        system=given.get("system"),
        chat=bool(given.get("chat", "messages" in given)),
        delimiter=str(given.get("delimiter", "" if given.get("chat") or "messages" in given else " ")),
        choices=given.get("choices"),
        answer=given.get("answer"),
        answer_index=given.get("answer_index"),
        slices=tuple(given.get("slices", ())),
        cluster=given.get("cluster"),
        metadata=tuple(given.get("metadata", ())),
    )
    lines = {key: f"{part.file}:{line}" for key, line in part.lines.items()}
    rows = Rows(str(_beside(file, given["data"])), lines)
    made = items_of(asking, rows, _few_shot(part, file), seed, items)
    decoding = Decoding(
        max_tokens=given.get("max_tokens", Decoding().max_tokens),
        stop=tuple(given.get("stop", ())),
        temperature=float(given.get("temperature", 0.0)),
        samples=given.get("samples", 1),
        score_unfinished=given.get("score_unfinished", False),
    )
    task = Task(
        name, kind, made.items, given["scorer"], decoding,
        given.get("metric_group", "accuracy"), given.get("version", "1"),
    )  # fmt: skip
    where = f"{part.file}:{part.line}"
    return FileTask(task, where, lines, made.origins, asking.slices, made.few_shot_answers)


def _few_shot(part: _Keys, file: Path) -> FewShot | None:
    if "few_shot" not in part.values:
        return None
    given = _few_shot_keys(part).values
    chat = part.values.get("chat", False)
    data = str(_beside(file, given.get("data", part.values["data"])))
    return FewShot(
        given.get("count", 0), data, given.get("seed", 0), given.get("separator", "" if chat else "\n\n"),
        given.get("answer"),
    )  # fmt: skip


def _few_shot_keys(part: _Keys) -> _Keys:
    value = part.values["few_shot"]
    return _Keys(part.file, part.lines["few_shot"], value, {})


def _kind(given: Mapping[str, Any]) -> Any:
    return given.get("kind", "choice" if "choices" in given else "generate")


def _beside(file: Path, name: str) -> Path:
    """A file named in another one: its path counts from that one's folder."""
    return Path(name) if Path(name).is_absolute() else file.parent / name


def _parsed(file: Path) -> yaml.Node | None:
    if not file.is_file():
        near = [str(other) for other in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        raise UsageError(str(file), "no such task file", nearest(str(file), near) if near else "Give a YAML file.")
    try:
        return yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise UsageError(str(file), "is not UTF-8 text", "Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(where, f"is not valid YAML ({problem})", "Mend that line.") from error


def _keys(node: yaml.MappingNode, file: Path) -> _Keys:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if str(key.value) in lines:
            raise UsageError(f"{file}:{line}", f"the key {key.value!r} is there twice", "Keep one of the two.")
        lines[str(key.value)] = line
    loader = yaml.SafeLoader("")
    try:
        values = loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{file}:{node.start_mark.line + 1}", f"is not valid YAML ({problem})", "Mend it.") from error
    return _Keys(str(file), node.start_mark.line + 1, values, lines)


def _is(value: object, form: str) -> bool:
    if form in (TEXTS, LIST):
        return (
            isinstance(value, str) if form == TEXTS else isinstance(value, list) and all(_is(v, TEXTS) for v in value)
        )
    if form in (WHOLE, NUMBER):
        kinds = int if form == WHOLE else int | float
        return isinstance(value, kinds) and not isinstance(value, bool)
    if form == TRUTH:
        return isinstance(value, bool)
    return isinstance(value, dict if form == MAPPING else list)
