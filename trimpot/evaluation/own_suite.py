"""A user's file of rows as a suite: a task file written from what the rows' fields are called. No torch here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trimpot.core.errors import UsageError, nearest
from trimpot.data.files import read_records
from trimpot.evaluation.suite import Suite
from trimpot.evaluation.task_file import FileTask, load_tasks, read_task_file
from trimpot.evaluation.task_rows import LETTERS
from trimpot.store.atomic import write_text

Record = Mapping[str, Any]
PROMPTS = ("prompt", "question", "instruction", "input", "query", "problem")
CONVERSATIONS = ("messages", "prompt", "conversation")
CHOICES = ("choices", "options", "endings", "candidates")
ANSWERS = ("answer", "target", "completion", "expected", "output", "reference", "response", "label", "gold")
INDICES = ("answer_index", "label", "answer", "answerKey", "gold", "target")
CLUSTERS = ("cluster", "document", "document_id", "doc_id", "passage", "template", "group")
SLICE_VALUES, ROWS_BY_VALUE = 20, 3
"""A field is a slice if it has from 2 to so many values, and on average so many rows or more of each."""
SHORT = 60
"""Letters of the longest answer up to which answers are compared as wholes."""
MOST_TOKENS = 512
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class NewSuite:
    """A suite that was written: its file, the keys of its task, its tasks."""

    path: Path
    keys: dict[str, Any]
    tasks: list[FileTask]


def suites_folder() -> Path:
    """Where a user's suites lie: $XDG_DATA_HOME/trimpot/suites, else ~/.local/share/trimpot/suites."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "trimpot" / "suites"


def find_suite(name: str, known: Mapping[str, Suite]) -> tuple[Suite, Path | None]:
    """A suite by name or by its task file, and that file where it has one: ours first, then the user's own.

    Raises:
        UsageError: no such suite, with the nearest name; or a file that cannot be read.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return read_task_file(name), Path(name)
    if name in known:
        return known[name], None
    own = {path.stem: path for path in sorted(suites_folder().glob("*.yaml"))}
    if name in own:
        return read_task_file(own[name]), own[name]
    mend = nearest(name, [*known, *own]) + " Or give a task file (.yaml)."
    raise UsageError(f"suite {name!r}", "there is no such suite", mend)


def new_suite(name: str, data: Path, known: Sequence[str] = (), path: Path | None = None) -> NewSuite:
    """Writes a task file for a file of rows, from what its fields are called, and reads it back.

    What is guessed stands in the file, to be changed there: the prompt (PROMPTS, or a conversation), choices, the
    answer or its place among them, the scorer, slices (fields of few values), the cluster.

    Args:
        known: names that are taken.
        path: the file to write; by default NAME.yaml in ``suites_folder``.

    Raises:
        UsageError: a name that is taken or none, a file that is there already, rows without a prompt, or rows that
            what was guessed does not fit: one line that names file, row and field.
    """
    if not NAME.fullmatch(name) or name in known:
        problem = "is taken by trimpot" if name in known else "is not a name"
        raise UsageError(f"suite {name!r}", problem, "Use small letters, digits, - and _.")
    path = path or suites_folder() / f"{name}.yaml"
    if path.exists():
        raise UsageError(str(path), "exists already", "Choose another name, or delete it.")
    records = [record for _, record in read_records(str(data), "evaluation")]
    if not records:
        raise UsageError(str(data), "holds no rows", "Give at least one.")
    keys = {"name": name, "data": str(data.resolve()), **guessed(records, str(data))}
    head = f"# Made from {data.name}. Change what was guessed wrongly, then: trimpot suite lint {path}\n"
    write_text(path, head + yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=110))
    try:
        return NewSuite(path, keys, load_tasks(path))
    except UsageError:
        path.unlink()
        raise


def guessed(records: Sequence[Record], where: str) -> dict[str, Any]:
    """The keys of a task that fits the rows.

    Raises:
        UsageError: no field that could be the prompt, or choices without a right one.
    """
    choices = next((name for name in CHOICES if _all(records, name, _texts)), None)
    if all(_all(records, name, str) is False for name in (*PROMPTS, "text")) and _conversation(records) is None:
        mend = f"Name the question's field one of {', '.join(PROMPTS)}; a text's, text; a conversation's, messages."
        raise UsageError(where, "no field that every row has is called as a prompt is", mend)
    prompt = next((name for name in PROMPTS if _all(records, name, str)), None)
    if choices is not None and prompt is not None:
        found = {"kind": "choice", "prompt": _filled(prompt), "choices": choices, **_right(records, choices, where)}
        used = {prompt, choices, *_named(found)}
    elif prompt is None and _conversation(records) is None:
        found, used = {"kind": "rolling", "prompt": _filled("text"), "scorer": "bits_per_byte"}, {"text"}
    else:
        found, used = _generation(records, prompt, where)
    return {**found, **_apart(records, used)}


def _generation(records: Sequence[Record], prompt: str | None, where: str) -> tuple[dict[str, Any], set[str]]:
    """Keys of a task whose answers are generated, as answers to a conversation."""
    messages = _conversation(records) if prompt is None else None
    found: dict[str, Any] = {"kind": "generate"}
    found |= {"messages": messages} if prompt is None else {"chat": True, "prompt": _filled(str(prompt))}
    answer = next((name for name in ANSWERS if _all(records, name, (str, int, float))), None)
    verifiers = {str(record["verifier"]) for record in records if "verifier" in record}
    if len(verifiers) > 1:
        raise UsageError(where, f"rows of {len(verifiers)} verifiers", "Make a suite of each, or take the field out.")
    if answer is None and not verifiers:
        mend = f"Name its field one of {', '.join(ANSWERS)}, or name what scores an answer as verifier."
        raise UsageError(where, "the rows have no right answer that every one of them has", mend)
    used = {str(messages or prompt), "verifier", *([answer] if answer else [])}
    texts = [str(record[answer]) for record in records] if answer else []
    longest = max((len(text.encode()) for text in texts), default=MOST_TOKENS)
    short = all(len(text) <= SHORT and "\n" not in text.strip() for text in texts)
    found |= {"answer": _filled(answer)} if answer else {}
    found["scorer"] = verifiers.pop() if verifiers else "exact" if short else "contains"
    # A token has at least one byte, and one ends the answer.
    found["max_tokens"] = min(max(longest + 1, 16), MOST_TOKENS)
    return found, used


def _right(records: Sequence[Record], choices: str, where: str) -> dict[str, str]:
    """How the rows say which choice is right, and what scores it."""
    for name in INDICES:
        if all(_places(record.get(name), record[choices]) for record in records):
            return {"answer_index": name, "scorer": "acc"}
    for name in ANSWERS:
        if all(record.get(name) in record[choices] for record in records):
            return {"answer": _filled(name), "scorer": "acc"}
    mend = f"Give its place from 0 or its letter as {INDICES[0]}, or its text as {ANSWERS[0]}."
    raise UsageError(where, "the rows do not say which choice is right", mend)


def _places(value: object, choices: Sequence[str]) -> bool:
    """Whether a value is a place among the choices: a number from 0 or a letter that is no choice itself."""
    if isinstance(value, str):
        return len(value) == 1 and value not in choices and 0 <= LETTERS.find(value) < len(choices)
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices)


def _apart(records: Sequence[Record], used: set[str]) -> dict[str, Any]:
    """Slices and the cluster: what of the other fields parts the rows."""
    cluster = next((name for name in CLUSTERS if name not in used and all(name in one for one in records)), None)
    inner = {name for one in records if isinstance(one.get("slices"), Mapping) for name in one["slices"]}
    names = [name for name in dict.fromkeys(name for one in records for name in one) if name not in (*used, cluster)]
    slices = sorted(inner) + [name for name in names if name not in inner and _parts(records, name)]
    return {**({"slices": slices} if slices else {}), **({"cluster": cluster} if cluster else {})}


def _parts(records: Sequence[Record], name: str) -> bool:
    values = [one[name] for one in records if one.get(name) is not None]
    if not all(isinstance(value, str | bool | int) and str(value) for value in values):
        return False
    count = len({str(value) for value in values})
    return 2 <= count <= SLICE_VALUES and len(values) >= ROWS_BY_VALUE * count


def _conversation(records: Sequence[Record]) -> str | None:
    return next((name for name in CONVERSATIONS if _all(records, name, _turns)), None)


def _all(records: Sequence[Record], name: str, kind: Any) -> bool:
    """Whether every row has the field, of a type or by a test."""
    values = [record.get(name) for record in records]
    if isinstance(kind, type | tuple):
        return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)
    return all(map(kind, values))


def _texts(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) for one in value)


def _turns(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _filled(name: str) -> str:
    return f"{{{{ {name} }}}}"


def _named(found: Mapping[str, Any]) -> set[str]:
    """The field that says which choice is right."""
    return {str(found["answer_index"])} if "answer_index" in found else {found["answer"].strip("{} ")}
