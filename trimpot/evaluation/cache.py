"""The response cache: what a model once answered, keyed by content, in one file for all runs and processes."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress, ignore
from trimpot.evaluation.code_version import code_version
from trimpot.evaluation.language_model import Generation, Identity, LanguageModel, Likelihood, Prompt, Request
from trimpot.evaluation.progress import part_of

BATCH = 64
"""Requests between two commits: what a killed evaluation loses at most. Against 128, as many as rollout's engine has
under way at one time, choices take 1.1 times as much computing (SmolLM2-135M)."""
LETTERS = 16384
"""Letters that a batch reads and generates at most, about 4096 tokens: 20 s of SmolLM2-135M on one core."""
LETTERS_OF_A_TOKEN = 4
FILE = "responses.sqlite"
VERSION = 1
"""Of the file's layout, kept in SQLite's user_version."""
WAIT_SECONDS = 60
"""How long one process waits while another writes a batch."""
_KEYS_AT_ONCE = 500
_Answer = TypeVar("_Answer", Likelihood, Generation)
Entry = tuple[dict[str, Any], float]
"""An answer's fields and the seconds that it took."""


class ResponseCache:
    """Answers by key in an SQLite file. Several processes may use one file: every ``put`` is one transaction.

    The first answer to a key stays: whoever puts another later gets the first.

    Raises:
        UsageError: the file is no response cache, is damaged, is of another version, or stays locked.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = Path(path), threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(str(path), f"cannot be made ({error.strerror})", "Give another with --cache.") from error
        with self._mended():
            self._database = sqlite3.connect(
                self.path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._begin()

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; what was put is in it already."""
        self._database.close()

    def get(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Those of the keys that have an answer."""
        found: dict[str, Entry] = {}
        with self._mended(), self._lock:
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = self._database.execute(f"SELECT key, answer, seconds FROM answers WHERE key IN ({marks})", some)
                found.update({key: (json.loads(answer), seconds) for key, answer, seconds in rows})
        return found

    def put(self, entries: Mapping[str, Entry]) -> None:
        """Keeps answers, all of them or, where the process dies, none."""
        rows = [(key, json.dumps(answer), seconds) for key, (answer, seconds) in entries.items()]
        with self._mended(), self._lock, self._transaction():
            self._database.executemany("INSERT OR IGNORE INTO answers (key, answer, seconds) VALUES (?, ?, ?)", rows)

    def __len__(self) -> int:
        with self._mended(), self._lock:
            return int(self._database.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def _begin(self) -> None:
        with self._transaction():
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if version == 0 and not tables:
                self._database.execute(
                    "CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, seconds REAL NOT NULL)"
                    " WITHOUT ROWID"
                )
                self._database.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION or "answers" not in tables:
                raise self._unusable("is an SQLite file of something else, or of another trimpot")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """What SQLite and JSON say, as one line that names the file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            mend = "See that it can be written and is used by nobody else, or give another with --cache."
            raise UsageError(str(self.path), f"the response cache cannot be used ({error})", mend) from error
        except (sqlite3.DatabaseError, ValueError) as error:
            raise self._unusable(f"is damaged or no response cache ({error})") from error

    def _unusable(self, problem: str) -> UsageError:
        mend = "Delete it (its answers are asked anew), give another with --cache, or go without: --no-cache."
        return UsageError(str(self.path), problem, mend)


class CachedModel:
    """A language model that asks another only for what the cache has not.

    A key is made of: kind of request, the model's identity (weights, tokenizer, template), the code that answers, the
    rendered prompt, and the continuation, or the decoding with the number of the draw. Missing requests are asked in
    batches (see BATCH and LETTERS), likelihoods in the order of their texts, so that what they share runs once; every
    batch is kept before the next is asked. A request that is there several times is asked once. A model that tells of
    every answer (it has a hook ``answered``, as endpoints do) has each kept at once, so that no failure loses one.

    ``hits`` counts requests that were found, ``asked`` those that were not; ``spent_seconds`` is what all answers took
    when they were asked, in this run or an earlier one; ``asked_tokens`` were generated now, in ``generating_seconds``.
    """

    def __init__(self, model: LanguageModel, cache: ResponseCache, batch: int = BATCH) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; at least 1 is needed")
        self.model, self.cache, self.batch = model, cache, batch
        self.hits = self.asked = self.asked_tokens = 0
        self.spent_seconds = self.generating_seconds = 0.0
        self._about: list[Any] = [VERSION, model.identity.key, code_version(type(model))]

    @property
    def identity(self) -> Identity:
        return self.model.identity

    @property
    def flops_per_token(self) -> float | None:
        return self.model.flops_per_token

    @property
    def max_length(self) -> int | None:
        """What the model reads at most, in tokens; None where it does not say."""
        limit: int | None = getattr(self.model, "max_length", None)
        return limit

    @property
    def tokens_of(self) -> Callable[..., int] | None:
        """The model's own count of tokens, if it has one."""
        count: Callable[..., int] | None = getattr(self.model, "tokens_of", None)
        return count

    def rendered(self, prompt: Prompt) -> str:
        """See LanguageModel."""
        return self.model.rendered(prompt)

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """See LanguageModel."""
        return self.model.prompt_ids(prompt)

    def loglikelihood(self, pairs: Sequence[tuple[Prompt, str]], progress: Progress = ignore) -> list[Likelihood]:
        """See LanguageModel."""
        shown: list[list[Any]] = [[*self._shown(prompt), continuation] for prompt, continuation in pairs]
        return self._answers("loglikelihood", pairs, shown, self.model.loglikelihood, Likelihood, progress)

    def loglikelihood_rolling(self, texts: Sequence[str], progress: Progress = ignore) -> list[Likelihood]:
        """See LanguageModel."""
        shown = [[text] for text in texts]
        return self._answers("rolling", texts, shown, self.model.loglikelihood_rolling, Likelihood, progress)

    def generate_until(self, requests: Sequence[Request], progress: Progress = ignore) -> list[Generation]:
        """See LanguageModel."""
        # The decoding first: batches are in this order, and a model runs one decoding at a time.
        shown = [
            [one.max_tokens, list(one.stop), one.temperature, *self._shown(one.prompt), one.sample] for one in requests
        ]
        return self._answers("generate", requests, shown, self.model.generate_until, Generation, progress)

    def _shown(self, prompt: Prompt) -> list[str]:
        """What the model reads; a text and a conversation that look alike may differ in their first token."""
        return ["text" if isinstance(prompt, str) else "conversation", self.model.rendered(prompt)]

    def _answers(
        self,
        kind: str,
        requests: Sequence[Any],
        shown: Sequence[list[Any]],
        ask: Callable[[Sequence[Any], Progress], list[_Answer]],
        answer: type[_Answer],
        progress: Progress,
    ) -> list[_Answer]:
        keys = [_key([kind, *self._about, parts]) for parts in shown]
        found = self.cache.get(list(dict.fromkeys(keys)))
        number_of = {key: number for number, key in reversed(list(enumerate(keys)))}
        missing = [key for key in number_of if key not in found]
        missing.sort(key=lambda key: shown[number_of[key]])
        self.hits += sum(key in found for key in keys)
        self.asked += len(missing)
        before = len(number_of) - len(missing)
        progress(before, len(number_of))
        for some in _batches(missing, [shown[number_of[key]] for key in missing], self.batch):
            heard = part_of(progress, before, len(number_of))
            found.update(self._ask(some, [requests[number_of[key]] for key in some], ask, heard))
            before += len(some)
        self.spent_seconds += sum(found[key][1] for key in number_of)
        return [answer(**found[key][0]) for key in keys]

    def _ask(
        self,
        keys: Sequence[str],
        requests: Sequence[Any],
        ask: Callable[[Sequence[Any], Progress], list[_Answer]],
        progress: Progress,
    ) -> dict[str, Entry]:
        """Asks a batch and keeps it; what is returned is what the cache has, also if another process was first."""
        began = time.monotonic()
        if hasattr(self.model, "answered"):
            self.model.answered = self._keeper(keys, requests)
        answers = ask(requests, progress)
        seconds = time.monotonic() - began
        generated = [one.tokens for one in answers if isinstance(one, Generation)]
        self.asked_tokens += sum(generated)
        self.generating_seconds += seconds if generated else 0.0
        share = seconds / len(answers)
        self.cache.put({key: (asdict(one), share) for key, one in zip(keys, answers, strict=True)})
        return self.cache.get(keys)

    def _keeper(self, keys: Sequence[str], requests: Sequence[Any]) -> Callable[[Any, Likelihood | Generation], None]:
        """Keeps every answer as it comes, of a model (an endpoint) that tells and that may fail before the last."""
        key_of, before = {id(one): key for key, one in zip(keys, requests, strict=True)}, [time.monotonic()]

        def answered(request: Any, answer: Likelihood | Generation) -> None:
            now = time.monotonic()
            self.cache.put({key_of[id(request)]: (asdict(answer), now - before[0])})
            before[0] = now

        return answered


def open_cache(folder: Path | None = None) -> ResponseCache:
    """The cache in a folder; None: the one that all runs of a user share.

    Raises:
        UsageError: as ResponseCache.
    """
    # As trimpot.models.embedded has it, whose package needs torch.
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimpot"
    return ResponseCache((folder or shared) / FILE)


def common_prefix(one: str, other: str) -> int:
    """The number of letters that two texts share at their beginning."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(place for place in range(length) if one[place] != other[place])


def _batches(keys: Sequence[str], shown: Sequence[Sequence[Any]], most: int) -> Iterator[list[str]]:
    """The keys cut into batches of at most ``most`` requests and LETTERS letters, those shared with the one before not
    counted; a larger request is a batch of its own.

    The cuts depend on what follows alone: an evaluation that goes on after whole batches makes the same ones, so that
    its answers are the same to the last bit.
    """
    batch: list[str] = []
    before, load = "", 0
    for key, parts in zip(keys, shown, strict=True):
        text = "".join(part for part in parts if isinstance(part, str))
        generated = parts[0] if isinstance(parts[0], int) else 0
        # Generation reads every prompt whole; a likelihood's shared beginning runs once within a batch.
        shared = 0 if generated else common_prefix(before, text)
        cost = len(text) - shared + LETTERS_OF_A_TOKEN * generated
        if batch and (len(batch) == most or load + cost > LETTERS):
            yield batch
            batch, load, cost = [], 0, len(text) + LETTERS_OF_A_TOKEN * generated
        batch.append(key)
        before, load = text, load + cost
    if batch:
        yield batch


def _key(parts: list[Any]) -> str:
    """The whole SHA-256: a wrong answer out of millions would never be noticed."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
