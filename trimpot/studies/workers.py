"""Runs tasks side by side in processes of one thread each, or one after the other in this process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import Any

import torch

from trimpot.core.errors import UsageError

Task = tuple[Callable[..., Any], tuple[Any, ...]]


class Workers:
    """``count`` processes that live as long as the ``with`` block; one: this process.

    A task always has one thread, so that its floating-point sums do not depend on how many run beside it.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """An error or Ctrl-C drops the tasks that have not begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Yields (index of the task, its result) as tasks end.

        Raises:
            UsageError: as a task did; the error of a process that is not this one comes back as it was.
        """
        if self.count == 1:
            for index, (function, arguments) in enumerate(tasks):
                with one_thread():
                    result = function(*arguments)
                yield index, result
            return
        if self._pool is None and tasks:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, mp_context=context, initializer=_begin_worker)
        futures = {self._pool.submit(_call, *task): index for index, task in enumerate(tasks) if self._pool}
        for future in as_completed(futures):
            result, fault = future.result()
            if fault is not None:
                raise UsageError(*fault)
            yield futures[future], result


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch computes with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, tuple[str, str, str] | None]:
    """The result, or the parts of a UsageError, which as a whole does not survive the way to another process."""
    try:
        return function(*arguments), None
    except UsageError as error:
        return None, (error.where, error.problem, error.mend)


def _begin_worker() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers to stop, and they would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
