"""Renders a comparison as one HTML file: a heat map of differences, and behind each cell its items side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimpot.core.errors import UsageError
from trimpot.core.hashing import bytes_hash
from trimpot.evaluation.compare.files import outcomes_path
from trimpot.evaluation.compare.result import Comparison
from trimpot.evaluation.compare.table import PairTable
from trimpot.site import comparison_cells as cells
from trimpot.site.comparison_cells import Cell
from trimpot.site.comparison_samples import CHANGES, MOST_BYTES, Block, Samples, block, samples_of
from trimpot.site.decimals import decimal
from trimpot.site.pages import environment, json_block
from trimpot.site.token_boundaries import load_tokenizers, tokenizer_files
from trimpot.store.atomic import write_text
from trimpot.store.outcomes import Outcome, read_outcomes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "underpowered": "?", None: "·"}
WORDS = {"underpowered": "undecided"}
DEEP = 0.75
"""From this shade on the colour is dark enough for light text."""


@dataclass(frozen=True)
class Answers:
    """What both sides answered: a list of outcomes per training seed, and the tokenizers that may have been theirs."""

    a: Sequence[Sequence[Outcome]]
    b: Sequence[Sequence[Outcome]]
    tokenizers: Sequence[Tokenizer] = ()


def read_answers(a: str, b: str) -> Answers:
    """The answers of two sides, each given as for ``frames_of``: paths parted by commas.

    Raises:
        UsageError: as ``outcomes_path`` and ``read_outcomes``.
    """
    sides = [[outcomes_path(part.strip()) for part in side.split(",") if part.strip()] for side in (a, b)]
    files = dict.fromkeys(file for paths in sides for path in paths for file in tokenizer_files(path))
    read = [[read_outcomes(path) for path in paths] for paths in sides]
    return Answers(read[0], read[1], load_tokenizers(list(files)))


def write_page(path: Path, found: Comparison, table: PairTable, answers: Answers) -> Path:
    """Writes the page of a comparison; returns its path.

    Args:
        found: the comparison of ``table``.

    Raises:
        UsageError: the path is a folder, its own cannot be made, or the disk is full.
    """
    if path.is_dir():
        raise UsageError(str(path), "is a folder", "Give the name of a file, as in comparison.html.")
    try:
        write_text(path, render(found, table, answers))
    except OSError as error:
        raise UsageError(str(path), f"cannot be written ({error.strerror})", "Give another place.") from error
    return path


def render(found: Comparison, table: PairTable, answers: Answers, most_bytes: int = MOST_BYTES) -> str:
    """The whole page. Text of models and items is data or escaped, and only the page's own script runs.

    Args:
        most_bytes: of the samples; where all do not fit, fewer of each slice are held.
    """
    maps = cells.heat_maps(found, table)
    flat = [cell for one in maps for row in one.rows for cell in row]
    samples = samples_of(table, answers.a, answers.b, answers.tokenizers)
    held = block(samples, [cell.places.tolist() for cell in flat], most_bytes)
    data = json_block(_data(found, samples, flat, held))
    template = environment().get_template("comparison.html.j2")
    return template.render(
        found=found,
        answer=[(WORDS.get(said, said), group, grounds) for said, group, grounds in cells.answer(found)],
        maps=maps,
        numbers={cell.key: number for number, cell in enumerate(flat)},
        data=data,
        # Derived from the content, so that no text within it can name it, and the same comparison gives the same page.
        nonce=bytes_hash([data.encode(), repr(found).encode()]),
        cells=cells,
        decimal=decimal,
        style_of=style_of,
        mark_of=lambda cell: MARKS[cell.verdict],
        row_notes=cells.notes_of(found.rows),
        trimpot_version=version("trimpot"),
        samples_held=len(held.samples),
        samples_in_all=len(samples.changes),
        compared=len(flat),
    )


def _data(found: Comparison, samples: Samples, flat: Sequence[Cell], held: Block) -> dict[str, Any]:
    return {
        "names": [found.a, found.b],
        "cells": [
            {
                "title": " · ".join((cell.group, cell.label, cell.column)),
                "facts": list(cells.facts(cell).items()),
                "notes": list(cell.row.notes) if cell.row is not None else [],
                "counts": _counts(samples, cell),
                "shown": shown,
            }
            for cell, shown in zip(flat, held.shown, strict=True)
        ],
        "samples": held.samples,
    }


def _counts(samples: Samples, cell: Cell) -> list[tuple[str, int]]:
    """Of each change the items that the cell has, on the page or not."""
    counts = Counter(samples.changes[place] for place in cell.places)
    return [(change, counts[change]) for change in CHANGES if counts[change]]


def style_of(cell: Cell) -> str:
    """The classes of a cell's colour: which way, how deep, whether its difference is decided."""
    if cell.shade is None:
        return "unmeasured"
    way = "improved" if cell.shade >= 0 else "worsened"
    deep = " deep" if abs(cell.shade) >= DEEP else ""
    decided = " decided" if cell.verdict in ("better", "worse") else ""
    return f"{way}{deep}{decided}"
