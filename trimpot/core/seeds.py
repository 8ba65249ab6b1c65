"""Named random streams: every draw has its own seed, so neither batch size, rank nor resume changes it."""

from __future__ import annotations

import hashlib
import random


def seed_for(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream with these names, e.g. ``seed_for(0, "rollout", step, sample)``."""
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *names: str | int) -> random.Random:
    """A Python random generator for the named stream."""
    return random.Random(seed_for(seed, *names))
