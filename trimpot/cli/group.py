"""A command with a second one under it: `trimpot card dpo.beta` and `trimpot card new my-paper`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

SHOWN = "show"
"""The command that is meant when none of the group's is named."""


class ShowOr(TyperGroup):
    """A group of the command ``show`` and others: what begins with none of their names goes to ``show``.

    Source: the way click documents to change a group's parsing.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if named else [SHOWN, *args])
