"""Posts JSON to a server that may be busy, slow or broken: retries, a rate limit, and one line when it fails."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from trimpot.core.errors import UsageError
from trimpot.core.seeds import stream
from trimpot.core.settings import check_settings, setting

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the first retry, and the most that the doubling comes to."""
LONGEST_RETRY_AFTER = 600.0
"""Seconds: a server that asks for more is not waited for."""
LARGEST_ANSWER = 64 << 20
"""Bytes of one answer."""
RETRIED = frozenset({408, 409, 425, 429, *range(500, 600)})
"""Statuses after which the same request may succeed."""
MENDS = {
    400: "Shorten the item or lower max_tokens, or take another kind of task.",
    401: "Name the environment variable that holds the key.",
    403: "Name the environment variable that holds the key, and check what it may do.",
    404: "Check the address, which ends in /v1, and the model's name.",
}


@dataclass(frozen=True)
class HttpSettings:
    """How requests are sent. None of it changes an answer."""

    at_once: int = setting(8, "requests in flight at once", at_least=1, at_most=256)
    per_minute: float | None = setting(None, "requests begun per minute; None: no limit", above=0)
    seconds: float = setting(120.0, "longest wait for one whole answer", above=0)
    attempts: int = setting(6, "how often a request is sent before it counts as failed", at_least=1)
    key_variable: str | None = setting(None, "environment variable with the API key, read at every call, never stored")


def _sleep(seconds: float, stop: threading.Event) -> None:
    stop.wait(seconds)


@dataclass(frozen=True)
class Clock:
    """Time as a test can set it. Units: seconds; ``wall`` since 1970; a sleep ends when its event is set."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float, threading.Event], None] = _sleep
    wall: Callable[[], float] = time.time


DEFAULT_SETTINGS, REAL_TIME = HttpSettings(), Clock()


class Pace:
    """When the next request may begin: 60 / per_minute seconds after the last, and not before a server's Retry-After.

    Shared by the threads of one client.
    """

    def __init__(self, per_minute: float | None, clock: Clock) -> None:
        self._gap, self._clock = (60.0 / per_minute if per_minute else 0.0), clock
        self._next, self._lock = clock.now(), threading.Lock()

    def take(self, stop: threading.Event) -> None:
        """Waits for the next turn, or until ``stop`` is set."""
        with self._lock:
            begin = max(self._next, self._clock.now())
            self._next = begin + self._gap
        if (delay := begin - self._clock.now()) > 0:
            self._clock.sleep(delay, stop)

    def hold(self, seconds: float) -> None:
        """Lets no request begin for so long."""
        with self._lock:
            self._next = max(self._next, self._clock.now() + seconds)


class _FaultError(Exception):
    """A request that may succeed when it is sent again. ``retry_after``: seconds that the server asks for."""

    def __init__(self, problem: str, retry_after: float | None = None, unreachable: bool = False) -> None:
        super().__init__(problem)
        self.retry_after, self.unreachable = retry_after, unreachable


class HttpClient:
    """Posts JSON bodies below one address.

    Sent again, up to ``attempts`` times: statuses 408, 409, 425, 429 and 5xx, lost connections, answers that are late
    or no JSON. Waits between attempts double from 1 s to at most 60 s, of each the upper half by chance (equal jitter),
    and are never shorter than the server's Retry-After, for which all requests wait. An address where nothing listens
    at the first request is not tried again: it is wrong, or the server is not started.

    Source: M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog 2015; Retry-After: RFC 9110, 10.2.3.
    """

    def __init__(self, address: str, settings: HttpSettings = DEFAULT_SETTINGS, clock: Clock = REAL_TIME) -> None:
        check_settings(settings, "endpoint")
        self.address, self.settings, self._clock = checked_address(address), settings, clock
        self._pace = Pace(settings.per_minute, clock)
        self._answered = False

    def post_all(
        self, path: str, bodies: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Place and answer of every body, as answers come in; at most ``at_once`` are under way.

        Args:
            names: what messages call each body.

        Raises:
            UsageError: one line for the first request that failed for good. Those under way then are still waited for
                and handed out first; no further one is sent.
        """
        failed: list[BaseException] = []
        stop = threading.Event()
        # A server on this machine is not behind a proxy.
        local = httpx.URL(self.address).host in ("localhost", "127.0.0.1", "::1")
        client = httpx.Client(timeout=self.settings.seconds, trust_env=not local, headers=self._headers())
        pool = ThreadPoolExecutor(self.settings.at_once, thread_name_prefix="endpoint")
        waiting = iter(range(len(bodies)))
        running: dict[Future[Any], int] = {}
        try:
            while True:
                while not failed and len(running) < self.settings.at_once and (n := next(waiting, None)) is not None:
                    running[pool.submit(self._post, client, path, bodies[n], names[n], stop)] = n
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(done)
                    if (answer := _result(done, failed, stop)) is not None:
                        yield number, answer
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            client.close()
        if failed:
            raise failed[0]

    def _post(
        self, client: httpx.Client, path: str, body: Mapping[str, Any], name: str, stop: threading.Event
    ) -> dict[str, Any] | None:
        """The answer; None when another request has failed for good meanwhile."""
        chance = stream(0, "endpoint", self.address, path, name)
        where, delay = f"{self.address}, {name}", FIRST_WAIT
        for attempt in range(1, self.settings.attempts + 1):
            self._pace.take(stop)
            if stop.is_set():
                return None
            try:
                answer = self._once(client, path, body, where)
                self._answered = True
                return answer
            except _FaultError as fault:
                self._refuse(fault, where, attempt)
                pause = delay / 2 * (1 + chance.random())
                if fault.retry_after is not None:
                    self._pace.hold(fault.retry_after)
                    pause = max(pause, fault.retry_after)
                self._clock.sleep(pause, stop)
                delay = min(2 * delay, LONGEST_WAIT)
        raise AssertionError("the last attempt raises")

    def _refuse(self, fault: _FaultError, where: str, attempt: int) -> None:
        """Raises the line of a fault that is not worth another attempt."""
        if fault.unreachable and not self._answered:
            raise UsageError(where, f"is not reachable ({fault})", "Start the server, or check the address.")
        if (fault.retry_after or 0.0) > LONGEST_RETRY_AFTER:
            problem = f"{fault}, and asks to wait {fault.retry_after:.0f} s"
            raise UsageError(where, problem, "Begin again then: what was answered is not lost.")
        if attempt == self.settings.attempts:
            tries = f"in {attempt} attempts" if attempt > 1 else "in the one attempt"
            raise UsageError(where, f"{fault} {tries}", "Begin again later: what was answered is not lost.")

    def _once(self, client: httpx.Client, path: str, body: Mapping[str, Any], where: str) -> dict[str, Any]:
        limit = self._clock.now() + self.settings.seconds
        try:
            with client.stream("POST", self.address + path, json=dict(body)) as response:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > LARGEST_ANSWER:
                        raise UsageError(where, f"answers with more than {LARGEST_ANSWER >> 20} MiB", "Ask for less.")
                    if self._clock.now() > limit:
                        raise _FaultError(f"gave no whole answer within {self.settings.seconds:g} s")
        except httpx.TimeoutException as error:
            raise _FaultError(f"gave no answer within {self.settings.seconds:g} s") from error
        except httpx.ConnectError as error:
            raise _FaultError(_line(str(error)) or "no connection", unreachable=True) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _FaultError(f"cut the connection ({type(error).__name__})") from error
        return self._read(response, bytes(content), where)

    def _read(self, response: httpx.Response, content: bytes, where: str) -> dict[str, Any]:
        status = response.status_code
        if status != 200:
            problem = f"answered with status {status}{self._reason(content)}"
            if status in RETRIED:
                raise _FaultError(problem, retry_after(response.headers, self._clock.wall()))
            raise UsageError(where, problem, MENDS.get(status, "Check the address and the server's own messages."))
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _FaultError("answered with what is no JSON") from error
        if not isinstance(answer, dict):
            raise UsageError(where, f"answered with a {type(answer).__name__}, not an object", "Check the address.")
        return answer

    def _reason(self, content: bytes) -> str:
        """The server's own words, in one line; a key that it repeats is masked."""
        try:
            told = json.loads(content)
            told = told.get("error", told.get("detail", told)) if isinstance(told, dict) else told
            told = told.get("message", told) if isinstance(told, dict) else told
        except (ValueError, RecursionError):
            told = content[:500].decode(errors="replace")
        text, key = _line(told if isinstance(told, str) else json.dumps(told)), self._key()
        text = text.replace(key, "***") if key else text
        return f": {text[:200].rstrip('.')}" if text else ""

    def _key(self) -> str | None:
        variable = self.settings.key_variable
        return None if variable is None else os.environ.get(variable, "").strip() or None

    def _headers(self) -> dict[str, str]:
        key, variable = self._key(), self.settings.key_variable
        if variable is not None and key is None:
            raise UsageError(self.address, f"the environment variable {variable} is not set", "Put the API key there.")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UsageError(self.address, f"{variable} holds what is no API key", "Put the API key there, one line.")
        return {} if key is None else {"Authorization": f"Bearer {key}"}


def _result(done: Future[Any], failed: list[BaseException], stop: threading.Event) -> dict[str, Any] | None:
    error = done.exception()
    if error is None:
        answer: dict[str, Any] | None = done.result()
        return answer
    stop.set()
    failed.append(error)
    return None


def checked_address(address: str) -> str:
    """An http(s) address without its final slash.

    Raises:
        UsageError: another scheme, no host, or a password, query or fragment in it.
    """
    mend = "Write it as http://127.0.0.1:8000/v1."
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError) as error:
        raise UsageError(f"endpoint {address!r}", "is no address", mend) from error
    if url.userinfo:
        raise UsageError("endpoint", "the address holds a password", "Name an environment variable with the key.")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise UsageError(f"endpoint {address!r}", "is no http address of a server", mend)
    return address.rstrip("/")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date, counted from the answer's own Date.

    Edge cases: no header, or one that cannot be read: None; a date that is past: 0.
    """
    told = headers.get("retry-after", "").strip()
    if not told:
        return None
    if told.isascii() and told.replace(".", "", 1).isdigit():
        return float(told)
    try:
        until = parsedate_to_datetime(told).timestamp()
    except ValueError:
        return None
    try:
        began = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        began = now
    return max(until - began, 0.0)


def _line(text: str) -> str:
    return " ".join(text.split())
