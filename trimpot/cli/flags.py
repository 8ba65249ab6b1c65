"""Options that a command reads from its context, where it has more than its function may have parameters."""

from __future__ import annotations

from typing import Any

import typer


def noted(context: typer.Context, option: typer.CallbackParam, value: Any) -> Any:
    """A callback that keeps an option under its parameter's name in ``context.meta``."""
    context.meta[str(option.name)] = value
    return value
