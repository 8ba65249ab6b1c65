"""Identity by content: short, stable hashes of rows, settings, files and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def content_hash(value: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a JSON-able value in canonical form (sorted keys)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def bytes_hash(chunks: Iterable[bytes]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the chunks in order."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """The whole SHA-256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
