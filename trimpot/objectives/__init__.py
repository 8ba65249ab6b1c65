"""Training objectives: one file per method, pure tensor code, and the table of all of them."""

from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.reward.bradley_terry import BradleyTerry
from trimpot.objectives.supervised.sft import SupervisedFineTuning

OBJECTIVES: dict[str, type] = {
    "sft": SupervisedFineTuning,
    "bradley_terry": BradleyTerry,
    "dpo": DPO,
    "grpo": GRPO,
}
"""Name in a recipe -> class; its fields are the settings."""

STAGES: dict[str, str] = {
    "sft": "sft",
    "bradley_terry": "reward",
    "dpo": "preference",
    "grpo": "policy_gradient",
}
"""Name of an objective -> the stage that trains with it."""
