"""Where a prompt's tokens begin and end, by a tokenizer that reproduces its ids. Neither torch nor transformers."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
MOST_IN_FRONT = 2
"""Ids in front that stand for no text: the beginning-of-sequence token."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def tokenizer_files(outcomes: Path) -> list[Path]:
    """Tokenizers that may have made the prompts of a file of outcomes, the likeliest first; empty: none is known.

    Looked at: the stage's own model, the model that the evaluation's record or the run's recipe names (a folder, a
    stage, the embedded model if it is unpacked, a hub id in the local cache), then the models of the run's other
    stages. Nothing is fetched, and a wrong one does no harm: see ``boundaries``.
    """
    folder = outcomes.resolve().parent
    files = [folder / "model" / FILE]
    for name in (_in_record(folder / "evaluation.json"), _in_recipe(folder.parent), _in_recipe(folder.parent.parent)):
        files += _of_model(name) if name else []
    files += sorted(folder.parent.glob(f"*/model/{FILE}"))
    return list(dict.fromkeys(file.resolve() for file in files if file.is_file()))


def _in_record(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["model"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _in_recipe(folder: Path) -> str:
    try:
        return str(yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return ""


def _of_model(name: str) -> list[Path]:
    files = [Path(name) / FILE, Path(name) / "model" / FILE]
    # Where trimpot.models.embedded unpacks a model of that name; to ask it would import torch.
    unpacked = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimpot"
    files += sorted(unpacked.glob(f"{glob.escape(Path(name).name)}-*/{FILE}"))
    if _HUB_ID.fullmatch(name) and not Path(name).exists():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, FILE)
        files += [Path(cached)] if isinstance(cached, str) else []
    return files


def load_tokenizers(files: Sequence[Path]) -> list[Tokenizer]:
    """The tokenizers of the files, one of each content; a file that cannot be read is left out."""
    from tokenizers import Tokenizer

    found: list[Tokenizer] = []
    for content in dict.fromkeys(file.read_text(encoding="utf-8") for file in files):
        try:
            found.append(Tokenizer.from_str(content))
        except Exception:  # the library raises Exception itself; without boundaries the page shows ids
            continue
    return found


def boundaries(tokenizers: Sequence[Tokenizer], prompt: str, ids: Sequence[int]) -> list[int] | None:
    """How many characters of the prompt each of its ids stands for, by the first tokenizer that gives these very ids.

    Characters between two tokens belong to the second. An id has 0 characters where it stands for none (a beginning
    token) or ends within a character that the id before it began.
    Example: "a bc" as ids 0 (beginning), 5 "a", 7 " bc": [0, 1, 3].

    Edge cases: no tokenizer gives these ids: None. No ids: None.
    """
    if not ids:
        return None
    for one in tokenizers:
        encoding = one.encode(prompt, add_special_tokens=False)
        front = len(ids) - len(encoding.ids)
        if not 0 <= front <= MOST_IN_FRONT or list(ids[front:]) != encoding.ids:
            continue
        lengths, reached = [0] * front, 0
        for _, end in encoding.offsets:
            lengths.append(max(end - reached, 0))
            reached = max(reached, end)
        if encoding.ids:
            lengths[-1] += len(prompt) - reached
        return lengths
    return None
