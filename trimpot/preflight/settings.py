"""What a recipe says about its preflight."""

from __future__ import annotations

from dataclasses import dataclass

from trimpot.core.errors import UsageError, nearest
from trimpot.core.settings import setting
from trimpot.preflight.names import CHECK_IDS


@dataclass(frozen=True)
class PreflightSettings:
    """Which of the checks before a run are left out; the recipe in the run folder keeps it."""

    skip: tuple[str, ...] = setting((), "checks that are not made before the run, by name")

    def __post_init__(self) -> None:
        check_names(self.skip, "skip")


def check_names(names: tuple[str, ...], where: str) -> None:
    """Refuses names that no check has.

    Raises:
        UsageError: names the nearest check.
    """
    for name in names:
        if name not in CHECK_IDS:
            raise UsageError(where, f"{name!r} is not a check", nearest(name, CHECK_IDS))
