"""Bytes, counted exactly: those that autograd saves, and those that are alive at the worst moment."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class SavedBytes:
    """Storages that a forward pass saves for the backward pass, each counted once, parameters left out.

    ``modules``: only what is saved while one of these runs is counted (the decoder's layers, say); none: all.
    Edge cases: what a function keeps outside of autograd's saved tensors is not seen. Within a segment that will be
        computed again nothing is saved but its inputs, so nothing else is counted. Tensors that are alive anyway
        (positions, masks) count where they are saved.
    """

    def __init__(self, parameters: Iterable[Tensor], modules: Iterable[nn.Module] = ()) -> None:
        self._left_out = {value.untyped_storage().data_ptr() for value in parameters}
        self._modules = list(modules)
        self._depth = 0
        self._storages: dict[int, int] = {}
        self._held: list[Tensor] = []

    @property
    def total(self) -> int:
        """Bytes so far."""
        return sum(self._storages.values())

    @contextmanager
    def counting(self) -> Iterator[SavedBytes]:
        """Counts within it; the forward pass must lie inside, the backward pass may follow after it."""
        hooks: list[Any] = []
        for module in self._modules:
            hooks.append(module.register_forward_pre_hook(self._enter))
            hooks.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda value: value):
                yield self
        finally:
            for hook in hooks:
                hook.remove()
            self._held.clear()

    def _enter(self, *_: Any) -> None:
        self._depth += 1

    def _leave(self, *_: Any) -> None:
        self._depth -= 1

    def _pack(self, value: Tensor) -> Tensor:
        if not self._modules or self._depth:
            storage = value.untyped_storage()
            if storage.data_ptr() not in self._left_out and storage.data_ptr() not in self._storages:
                self._storages[storage.data_ptr()] = storage.nbytes()
                # An address that is given free and used again would count as one storage: what is counted stays.
                self._held.append(value.detach())
        # Not the tensor itself: a saved output would hold its own node, and nothing would ever be freed.
        return value.detach()


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operations within it make and that are still alive: ``live`` now, ``peak`` at most.

    Tensors from before count nothing. What a kernel uses inside itself and frees again is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self._know(value, new=False)
        output = func(*args, **(kwargs or {}))
        for value in tree_leaves(output):
            if isinstance(value, Tensor):
                self._know(value, new=True)
        return output

    def _know(self, value: Tensor, new: bool) -> None:
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes() if new else 0
        self.live += self._known[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._known.pop(key, 0)
