"""How a recipe names models and rows of other stages: base, stage:NAME, or a model of one's own."""

from __future__ import annotations

from trimpot.store.run_folder import RunFolder

BASE = "base"
"""The recipe's model before any stage, and the evaluation of it."""
FROM_STAGE = "stage:"
"""Opens the name of an earlier stage whose rows or model are meant."""
TRAINS_POLICY = ("sft", "distill", "preference", "policy_gradient")
"""The kinds of stage that leave a policy behind."""


def named_stage(name: str | None) -> str | None:
    """The stage that ``stage:NAME`` names; None for a name of another form."""
    return name.removeprefix(FROM_STAGE) if name is not None and name.startswith(FROM_STAGE) else None


def model_of(name: str, run: RunFolder) -> str:
    """Where the model of a name lies: the folder of ``stage:NAME``, else the name as it is."""
    stage = named_stage(name)
    return name if stage is None else str(run.stage(stage).model_folder)
