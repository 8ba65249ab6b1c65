"""Embedded rows: easy questions made on the spot by reasoning-gym, without network or file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from trimpot.core.errors import UsageError, nearest
from trimpot.core.rows import KINDS, ChatRow, Message, Origin, PromptRow, Row
from trimpot.core.seeds import seed_for
from trimpot.data.puzzles import TASKS, Puzzle, Task

NAMES = ("reasoning-easy",)
SPLITS = ("train", "pairs", "evaluation")
# Of every four keys two are for training, one for pairs, one for evaluation.
SPLIT_OF_KEY = ("train", "train", "pairs", "evaluation")
# Every third question of a task is of medium difficulty.
DIFFICULTIES = ("easy", "easy", "medium")
SYSTEM = Message("system", "Answer only.")
"""Stands in the place of the long system prompt that a model's template may have as its default."""

DRAWS = 5000
"""Entries looked at in a row for one that is new and of the wanted split, before the task counts as exhausted."""


def embedded_rows(name: str, split: str, count: int, seed: int, kind: str = "prompt") -> list[Row]:
    """``count`` rows of a generated data set, balanced over its tasks; fewer rows are a beginning of more.

    A question belongs to one split, by the hash of its content, so splits are disjoint whatever their seeds and
    counts, and so are questions that differ in the order of their numbers only. No question occurs twice.

    Args:
        name: reasoning-easy.
        split: train, pairs or evaluation.
        count: rows wanted.
        seed: of the generators.
        kind: "prompt" gives a PromptRow with its answer, "chat" a ChatRow whose last turn is the answer.

    Raises:
        UsageError: unknown name, split or kind, or more rows wanted than there are questions.
    Source: reasoning-gym 0.1.25 (arXiv 2505.24760); questions in our own, shorter words.
    """
    if name not in NAMES:
        raise UsageError(f"embedded:{name}", "no such embedded data set", nearest(name, NAMES))
    where = f"embedded:{name}"
    if split not in SPLITS:
        raise UsageError(where, f"has no split {split!r}", nearest(split, SPLITS))
    if kind not in ("prompt", "chat"):
        known = f"a {kind} row" if kind in KINDS else repr(kind)
        raise UsageError(where, f"holds prompt and chat rows, not {known}", "Pairs are built from a model's samples.")
    questions = {task: _questions(task, TASKS[task], split, seed, where) for task in TASKS}
    names = list(TASKS)
    rows: list[Row] = []
    for index in range(count):
        task = names[index % len(names)]
        difficulty, puzzle = next(questions[task])
        slices = {"task": task, "difficulty": difficulty}
        rows.append(_row(puzzle, kind, slices, TASKS[task].dataset, Origin(where, index + 1)))
    return rows


def _row(puzzle: Puzzle, kind: str, slices: dict[str, str], dataset: str, origin: Origin) -> Row:
    prompt = (SYSTEM, Message("user", puzzle.question))
    if kind == "chat":
        return ChatRow((*prompt, Message("assistant", puzzle.answer)), slices=slices, origin=origin)
    return PromptRow(prompt, puzzle.answer, "exact", {"dataset": dataset}, slices, origin)


def _questions(name: str, task: Task, split: str, seed: int, where: str) -> Iterator[tuple[str, Puzzle]]:
    """New questions of one task and split, with their difficulty, in the pattern of DIFFICULTIES."""
    streams = {
        difficulty: _entries(task, difficulty, seed_for(seed, "embedded", split, name, difficulty))
        for difficulty in sorted(set(DIFFICULTIES))
    }
    seen: set[str] = set()
    while True:
        for difficulty in DIFFICULTIES:
            for _ in range(DRAWS):
                puzzle = next(streams[difficulty])
                if puzzle.question not in seen and _split_of(name, puzzle.key) == split:
                    break
            else:
                mend = f"Ask for at most {len(seen) * len(TASKS)} rows."
                raise UsageError(where, f"has {len(seen)} questions of {name} in {split}, and no more", mend)
            seen.add(puzzle.question)
            yield difficulty, puzzle


def _entries(task: Task, difficulty: str, seed: int) -> Iterator[Puzzle]:
    import reasoning_gym  # takes a second

    generator = reasoning_gym.create_dataset(task.dataset, seed=seed, size=2**31, **task.settings(difficulty))
    for index in range(2**31):
        entry = generator[index]
        puzzle = task.word(entry["metadata"], entry["answer"])
        if puzzle is not None:
            yield puzzle


def _split_of(task: str, key: str) -> str:
    digest = hashlib.blake2b(f"{task}/{key}".encode(), digest_size=8).digest()
    return SPLIT_OF_KEY[int.from_bytes(digest, "big") % len(SPLIT_OF_KEY)]
