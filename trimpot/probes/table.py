"""The live probes by name, and how a run's are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trimpot.core.errors import UsageError, nearest
from trimpot.probes.step import StepProbe

Build = Callable[[int | None, Any], StepProbe]
"""From the steps between two looks (None: the probe's own) and the torch module that trains to a probe.

Each imports its probe when it is called, so that reading a recipe's names loads none.
"""


def _noise_scale(every: int | None, model: Any) -> StepProbe:
    from trimpot.probes.noise_scale_live import NoiseScaleProbe

    return NoiseScaleProbe() if every is None else NoiseScaleProbe(every)


def _health(every: int | None, model: Any) -> StepProbe:
    from trimpot.probes.health import health

    return health(every, model)


PROBES: dict[str, Build] = {"noise_scale": _noise_scale, "health": _health}


def check_probes(names: Sequence[str], where: str = "probes") -> None:
    """Refuses names that are not in the table or come twice.

    Raises:
        UsageError: names the probe and the nearest known one.
    """
    for place, name in enumerate(names):
        if name not in PROBES:
            raise UsageError(where, f"{name!r} is not a probe", nearest(name, PROBES))
        if name in names[:place]:
            raise UsageError(where, f"{name!r} is there twice", "Name each probe once.")


def build_probes(names: Sequence[str], every: int | None, model: Any) -> tuple[StepProbe, ...]:
    """The probes of a run; ``every`` replaces each probe's own interval.

    Raises:
        UsageError: see ``check_probes``.
    """
    check_probes(names)
    return tuple(PROBES[name](every, model) for name in names)
