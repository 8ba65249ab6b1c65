"""The recipe of ``trimpot demo``, carried inside the package."""

from __future__ import annotations

from pathlib import Path

from trimpot.recipe.read import Recipe, read_recipe

DEMO = Path(__file__).with_name("demo.yaml")


def demo_recipe() -> Recipe:
    """SFT, constructed pairs, reward model, DPO and GRPO on the embedded model, evaluated after each."""
    return read_recipe(DEMO)
