"""Training objectives: one file per method, pure tensor code, and the table of all of them."""

from typing import Any

from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.reward.bradley_terry import BradleyTerry
from trimpot.objectives.supervised.sft import SupervisedFineTuning

OBJECTIVES: dict[str, Any] = {kind.name: kind for kind in (SupervisedFineTuning, BradleyTerry, DPO, GRPO)}
"""Name in a recipe -> class; its fields are the settings, its ``stage`` is the kind of stage that trains with it."""
