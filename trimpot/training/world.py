"""The processes of a run: one, unless torch.distributed is initialised. Sums over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

Item = TypeVar("Item")


def world() -> tuple[int, int]:
    """(rank, number of processes)."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def share(items: Sequence[Item]) -> list[Item]:
    """This process's part: every n-th item. All parts together are the items."""
    rank, size = world()
    return list(items[rank::size])


def gathered(value: Any) -> list[Any]:
    """The value of every process, by rank; every process must call it. One process: the value alone."""
    _, size = world()
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    distributed.all_gather_object(values, value)
    return values


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Adds every parameter's gradient over the processes; a parameter without one anywhere keeps none."""
    parameters = list(parameters)
    if world()[1] == 1:
        return
    present = [any(flags) for flags in zip(*gathered([value.grad is not None for value in parameters]), strict=True)]
    for value, needed in zip(parameters, present, strict=True):
        if needed:
            if value.grad is None:
                value.grad = torch.zeros_like(value)
            distributed.all_reduce(value.grad)
