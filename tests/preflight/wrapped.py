"""A trainee in which single methods are replaced, for planted bugs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trimpot.preflight.check import Built


@dataclass(frozen=True)
class Wrapped:
    """A trainee in which some of the three methods are replaced."""

    inner: Any
    change: Mapping[str, Callable[..., Any]]

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def trainable(self) -> dict[str, Tensor]:
        return self.change.get("trainable", self.inner.trainable)()

    def streams(self, batch: Any, wanted: Any) -> Mapping[str, Tensor]:
        return self.change.get("streams", self.inner.streams)(batch, wanted)

    def models(self) -> Mapping[str, Any]:
        return self.change.get("models", self.inner.models)()


def wrapped(one: Built, **change: Callable[..., Any]) -> Built:
    return replace(one, trainee=Wrapped(one.trainee, change))
