"""lm-eval's exact_match as a scorer that a task names by file: it runs in a process of its own."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

from trimpot.core.rows import PromptRow


def exact_match(output: str, row: PromptRow) -> float:
    """1 when output and answer are equal after what the row's metadata say to ignore, else 0.

    ``regexes_to_ignore`` (removed, in their order), ``ignore_case``, ``ignore_punctuation``, ``ignore_numbers``.

    Source: lm-eval 0.4.13, ``exact_match_hf_evaluate``.
    """
    return float(_bare(output, row) == _bare(row.answer, row))


def _bare(text: str, row: PromptRow) -> str:
    options: Mapping[str, Any] = row.metadata
    for pattern in options.get("regexes_to_ignore") or ():
        text = re.sub(pattern, "", text)
    if options.get("ignore_case"):
        text = text.lower()
    left_out = (string.punctuation if options.get("ignore_punctuation") else "") + (
        string.digits if options.get("ignore_numbers") else ""
    )
    return text.translate(str.maketrans("", "", left_out))
