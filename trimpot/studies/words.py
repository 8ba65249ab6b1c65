"""The subject of tiny studies: four letters backwards; bases and pairs are cached by seed, for all studies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from trimpot.core.hashing import content_hash
from trimpot.core.rows import ChatRow, Message, PreferencePair, PromptRow
from trimpot.models.embedded import cache_folder
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny
from trimpot.store.atomic import atomic_folder
from trimpot.studies import reversal
from trimpot.studies.code import files_hash, reached
from trimpot.studies.study import Settings
from trimpot.studies.workers import one_thread

LEARN, PROBE = 872, 128
"""Words that the base is fine-tuned on, and words on which it is seen when to stop."""
BASE = "base.safetensors"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Words:
    """A tiny model that writes four letters backwards; its base is right in about ``stop_at`` of its samples.

    Settings: ``stop_at`` (default 0.5), ``sft_steps``, the most it is fine-tuned for (600), ``prompts`` (2000) and
    ``held_out`` (64). Of the seed's words the base learns 872, 128 show when to stop; the others follow.
    """

    settings: Settings
    seed: int
    folder: Path
    max_length = reversal.MAX_LENGTH
    sampling = reversal.SAMPLING

    def prepare(self) -> None:
        """Copies the seed's base into the folder; it is made where no study has made it yet."""
        shutil.copyfile(kept_base(self.seed, self.stop_at, self.sft_steps) / BASE, self.folder / BASE)

    @property
    def stop_at(self) -> float:
        return float(self.settings.get("stop_at", 0.5))

    @property
    def sft_steps(self) -> int:
        return int(self.settings.get("sft_steps", 600))

    def base(self) -> Policy:
        policy = tiny("0.1m", seed=self.seed)
        policy.model.load_state_dict(load_file(self.folder / BASE), strict=False)
        return policy

    def chats(self) -> list[ChatRow]:
        """What the base was fine-tuned on."""
        return [ChatRow((*row.prompt, Message("assistant", row.answer))) for row in self._words[:LEARN]]

    def prompts(self) -> list[PromptRow]:
        return self._words[LEARN + PROBE :][: self._prompts]

    def held_out(self) -> list[PromptRow]:
        return self._words[LEARN + PROBE + self._prompts :]

    def given_pairs(self) -> tuple[list[PreferencePair], list[PreferencePair]] | None:
        return None

    def kept(self, name: str) -> Path | None:
        """In the cache, by all that the pairs follow from."""
        key = {
            "base": _base_key(self.seed, self.stop_at, self.sft_steps),
            "rows": [self._prompts, self._held_out, self.settings.get("pairs")],
            "code": _code(HERE / "subject.py"),
        }
        return cache_folder() / "studies" / f"pairs-{self.seed}-{content_hash(key)}-{name}"

    @property
    def _prompts(self) -> int:
        return int(self.settings.get("prompts", 2000))

    @property
    def _held_out(self) -> int:
        return int(self.settings.get("held_out", 64))

    @property
    def _words(self) -> list[PromptRow]:
        return reversal.words(LEARN + PROBE + self._prompts + self._held_out, self.seed)


def kept_base(seed: int, stop_at: float, steps: int) -> Path:
    """The folder in the user's cache with the seed's base model; made on first use, in one thread.

    It is known by seed, settings, torch's version and the code that makes it, and is written whole or not at all; a
    second process waits for the first.
    """

    def make(folder: Path) -> None:
        rows = reversal.words(LEARN + PROBE, seed)
        with one_thread():
            base = reversal.base_policy(rows[:LEARN], rows[LEARN:], stop_at, steps, seed)
        save_file({name: value.contiguous() for name, value in base.trainable().items()}, folder / BASE)

    return cached(f"words-{seed}-{content_hash(_base_key(seed, stop_at, steps))}", make)


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name among what studies keep in the user's cache; ``make`` fills it on first use."""
    folder = cache_folder() / "studies" / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with atomic_folder(folder) as temporary:
                    make(temporary)
    return folder


def _base_key(seed: int, stop_at: float, steps: int) -> dict[str, Any]:
    code = _code(HERE / "reversal.py")
    return {
        "seed": seed,
        "stop_at": stop_at,
        "steps": steps,
        "rows": [LEARN, PROBE],
        "torch": torch.__version__,
        "code": code,
    }


@cache
def _code(file: Path) -> str:
    return files_hash(reached([file]))
