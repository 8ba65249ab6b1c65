"""Reads a file, a saved `datasets` folder or a cached hub data set into (line, record) pairs. Never the network."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trimpot.core.errors import UsageError, nearest

Record = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SPLITS = {
    "train": ("train",),
    "pairs": ("pairs", "train"),
    "evaluation": ("evaluation", "validation", "test"),
}
"""The splits of a data set that serve for one of ours, the first that is there: pairs are made from rows to train on;
of held-out rows those that choices may be made on come first, and test is kept for the end. Nothing is evaluated on
rows to train on."""
NUMBERS_OF_A_CSV = ("weight", "margin")
TRUTHS_OF_A_CSV = {"true": True, "1": True, "false": False, "0": False}


def read_records(source: str, split: str) -> Iterator[tuple[int, Record]]:
    """(line, record) of every row of the source.

    ``line`` is the 1-based line of a .jsonl or .csv file, and the 1-based number of the row in everything else.
    ``split`` picks the split of a `datasets` folder or hub id (see SPLITS); a single file has none and ignores it.

    Raises:
        UsageError: no such file, unreadable, malformed (names file and line), or a hub id that is not cached.
    """
    path = Path(source)
    if path.is_dir():
        return enumerate(_saved_dataset(source, split), start=1)
    if path.is_file():
        return _read_file(path, source)
    if path.suffix not in SUFFIXES and HUB_ID.fullmatch(source) and not path.parent.exists():
        return enumerate(_cached_hub_dataset(source, split), start=1)
    raise _missing(path, source)


def _read_file(path: Path, source: str) -> Iterator[tuple[int, Record]]:
    readers = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet, ".csv": _csv}
    if path.suffix not in readers:
        raise UsageError(source, f"cannot read a {path.suffix or 'suffixless'} file", f"Give {', '.join(SUFFIXES)}.")
    return readers[path.suffix](path, source)


def _missing(path: Path, source: str) -> UsageError:
    folder = path.parent
    if not folder.is_dir():
        return UsageError(source, f"no such file; there is no folder {folder}", "Check the path.")
    names = [entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES or entry.is_dir()]
    mend = nearest(path.name, names) if names else f"The folder {folder} holds no data files."
    return UsageError(source, "no such file", mend)


def _text(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UsageError(f"{source}:{line}", "not UTF-8 text", "Save the file as UTF-8.") from error


def _jsonl(path: Path, source: str) -> Iterator[tuple[int, Record]]:
    # Not splitlines: JSON strings may hold U+2028 and other characters that it counts as line ends.
    for number, line in enumerate(_text(path, source).split("\n"), start=1):
        if line.strip():
            yield number, _object(_parse(line, source, number), f"{source}:{number}")


def _parse(line: str, source: str, number: int) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        problem = f"malformed JSON at column {error.colno}: {error.msg}"
        raise UsageError(f"{source}:{number}", problem, "Give one JSON object per line.") from error


def _json(path: Path, source: str) -> Iterator[tuple[int, Record]]:
    try:
        value = json.loads(_text(path, source) or "[]")
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # JSON lines under the name .json, as the hub has them
            yield from _jsonl(path, source)
            return
        problem = f"malformed JSON at column {error.colno}: {error.msg}"
        raise UsageError(f"{source}:{error.lineno}", problem, "Give a JSON list of objects.") from error
    if isinstance(value, dict):  # a file of one JSON line
        value = [value]
    if not isinstance(value, list):
        raise UsageError(source, f"holds a {type(value).__name__}", "Give a JSON list of objects.")
    for number, record in enumerate(value, start=1):
        yield number, _object(record, f"{source}:{number}")


def _object(value: object, where: str) -> Record:
    if not isinstance(value, dict):
        raise UsageError(where, f"a JSON {type(value).__name__}, not an object", 'Give {"key": value, …} for a row.')
    return value


def _parquet(path: Path, source: str) -> Iterator[tuple[int, Record]]:
    import polars

    try:
        frame = polars.read_parquet(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise UsageError(source, f"not a readable Parquet file ({_first_line(error)})", "Write it again.") from error
    yield from enumerate(frame.iter_rows(named=True), start=1)


def _csv(path: Path, source: str) -> Iterator[tuple[int, Record]]:
    reader = csv.DictReader(io.StringIO(_text(path, source), newline=""), strict=True)
    try:
        for cells in reader:
            where = f"{source}:{reader.line_num}"
            if None in cells or None in cells.values():
                raise UsageError(where, "another number of cells than the header", "Quote cells that hold commas.")
            yield reader.line_num, {key: _cell(key, text, where) for key, text in cells.items() if text != ""}
    except csv.Error as error:
        raise UsageError(f"{source}:{reader.line_num}", f"malformed CSV: {error}", "Mend that line.") from error


def _cell(key: str, text: str, where: str) -> object:
    if key == "label":
        return TRUTHS_OF_A_CSV.get(text.strip().lower(), text)
    if key not in NUMBERS_OF_A_CSV:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(where, f"{key} {text!r} is not a number", f"Give a number as {key}.") from error


def _saved_dataset(source: str, split: str) -> Iterable[Record]:
    import datasets

    try:
        loaded = datasets.load_from_disk(source)
    except FileNotFoundError as error:
        files = f"a {' or '.join(SUFFIXES)} file"
        raise UsageError(
            source, "a folder without a saved data set", f"Give {files} or save_to_disk output."
        ) from error
    return _split_of(loaded, source, split)


def _cached_hub_dataset(source: str, split: str) -> Iterable[Record]:
    # The builder that reads datasets' own cache: load_dataset would ask the hub first.
    from datasets.packaged_modules.cache.cache import Cache

    try:
        builder = Cache(dataset_name=source.split("/")[1], repo_id=source, version="auto", hash="auto")
    except ValueError as error:
        if "multiple" in str(error):
            problem, mend = "several configurations are cached", "Save the one you want with save_to_disk and name it."
        else:
            problem = "no such file, and no data set of that name in the cache of the datasets library"
            mend = f"Fetch it once with datasets.load_dataset({source!r}), or name a file."
        raise UsageError(source, problem, mend) from error
    builder.download_and_prepare()
    return _split_of(builder.as_dataset(), source, split)


def _split_of(loaded: Any, source: str, split: str) -> Iterable[Record]:
    if not hasattr(loaded, "keys"):  # one Dataset, without splits
        return loaded
    serving = SPLITS.get(split, (split,))
    found = next((name for name in serving if name in loaded), None)
    if found is None:
        names = sorted(loaded)
        problem = f"has no split {' or '.join(map(repr, serving))}; its splits are {', '.join(names)}"
        one = Path(source) / names[0]
        here = f"Name one by its folder, such as {one}."
        mend = here if one.is_dir() else "Save the one you want with save_to_disk and name that."
        raise UsageError(source, problem, mend)
    return loaded[found]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
