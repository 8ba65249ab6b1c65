"""Rows for the benchmarks, made of Python's own documentation (pydoc_data): nothing is fetched.

All are records as trimpot's row files have them, a function of their arguments alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def passages(least: int) -> list[tuple[str, str]]:
    """(topic, text on one line) of every topic with at least so many characters, by name."""
    from pydoc_data.topics import topics

    flat = ((name, " ".join(text.split())) for name, text in sorted(topics.items()))
    return [(name, text) for name, text in flat if len(text) >= least]


def chat_rows(count: int) -> list[Record]:
    """Instruction chats of about 60 to 490 tokens: the first half of a passage is asked with, the second is the answer.

    About half of the tokens are supervised. Lengths are mixed, as those of instruction data are.
    """
    found = passages(1)
    rows = []
    for number in range(count):
        name, text = found[number % len(found)]
        words = text[: 200 + 211 * (number % 9)].split()
        half = len(words) // 2
        question = f"Continue this text on Python's {name}: {' '.join(words[:half])}"
        rows.append({"messages": [_turn("user", question), _turn("assistant", " ".join(words[half:]))]})
    return rows


def pair_rows(count: int) -> list[Record]:
    """Preference pairs: a prompt of about 200 tokens, and two answers of about 60.

    The chosen answer goes on with the prompt's passage, the rejected one is of another passage.
    """
    found = passages(1200)
    rows = []
    for number in range(count):
        (name, text), (_, other) = found[number % len(found)], found[(number + 1) % len(found)]
        question = f"Continue this text on Python's {name}: {text[:720]}"
        rows.append(
            {
                "prompt": [_turn("user", question)],
                "chosen": [_turn("assistant", text[720:970].strip())],
                "rejected": [_turn("assistant", other[720:970].strip())],
            }
        )
    return rows


def prompt_rows(count: int) -> list[Record]:
    """Prompts of about 130 tokens, system turn included."""
    found = passages(1200)
    rows = []
    for number in range(count):
        name, text = found[number % len(found)]
        rows.append({"prompt": [_turn("user", f"Explain this text on Python's {name}: {text[:360]}")]})
    return rows


def write_rows(rows: Sequence[Record], path: Path) -> str:
    """Writes rows as JSON lines and returns the path as a recipe names it."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
