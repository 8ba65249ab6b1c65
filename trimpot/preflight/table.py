"""All checks by name, in the order they are made: what reads rows alone comes first, short runs last."""

from __future__ import annotations

from trimpot.preflight import (
    baselines,
    gradients,
    initial,
    leaks,
    learning,
    loss,
    memory,
    resume,
    rows,
    sampling,
    targets,
    zeroed,
)
from trimpot.preflight.check import Check
from trimpot.preflight.names import CHECK_IDS

_FOUND = {
    check.id: check
    for part in (rows, targets, initial, zeroed, leaks, sampling, gradients, loss, learning, baselines, resume, memory)
    for check in part.CHECKS
}
CHECKS: dict[str, Check] = {name: _FOUND[name] for name in CHECK_IDS}


def chosen(thorough: bool, skip: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> tuple[Check, ...]:
    """The cheap checks, all with ``thorough``, or those named in ``only``; never those in ``skip``."""
    return tuple(
        check
        for name, check in CHECKS.items()
        if name not in skip and (name in only if only else thorough or not check.thorough)
    )
