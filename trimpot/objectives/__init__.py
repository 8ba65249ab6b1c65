"""Training objectives: one file per method, pure tensor code, and the table of all of them."""

from collections.abc import Mapping
from typing import Any

from trimpot.objectives.distill.gkd import GKD
from trimpot.objectives.policy_gradient import dapo, dr_grpo, grpo, gspo, ppo, rloo
from trimpot.objectives.policy_gradient.cispo import CISPO
from trimpot.objectives.policy_gradient.dapo import DAPO
from trimpot.objectives.policy_gradient.dr_grpo import DrGRPO
from trimpot.objectives.policy_gradient.grpo import GRPO
from trimpot.objectives.policy_gradient.gspo import GSPO
from trimpot.objectives.policy_gradient.ppo import PPO
from trimpot.objectives.policy_gradient.reinforce_plus_plus import ReinforcePlusPlus
from trimpot.objectives.policy_gradient.remax import ReMax
from trimpot.objectives.policy_gradient.rloo import RLOO
from trimpot.objectives.preference import beta_dpo, cpo, dpo_length_normalised, dpo_sft, ipo, orpo, robust_dpo, simpo
from trimpot.objectives.preference.beta_dpo import BetaDPO
from trimpot.objectives.preference.cdpo import ConservativeDPO
from trimpot.objectives.preference.cpo import CPO
from trimpot.objectives.preference.dpo import DPO
from trimpot.objectives.preference.dpo_length_normalised import LengthNormalisedDPO
from trimpot.objectives.preference.dpo_reference_free import ReferenceFreeDPO
from trimpot.objectives.preference.dpo_sft import DPOWithSFT
from trimpot.objectives.preference.hinge import HingeDPO
from trimpot.objectives.preference.ipo import IPO
from trimpot.objectives.preference.kto import KTO
from trimpot.objectives.preference.orpo import ORPO
from trimpot.objectives.preference.robust_dpo import RobustDPO
from trimpot.objectives.preference.simpo import SimPO
from trimpot.objectives.reward.bradley_terry import BradleyTerry
from trimpot.objectives.reward.process_reward import ProcessReward
from trimpot.objectives.supervised.sft import SupervisedFineTuning

OBJECTIVES: dict[str, Any] = {
    kind.name: kind
    for kind in (
        SupervisedFineTuning,
        GKD,
        BradleyTerry,
        ProcessReward,
        DPO,
        IPO,
        ConservativeDPO,
        RobustDPO,
        HingeDPO,
        LengthNormalisedDPO,
        DPOWithSFT,
        BetaDPO,
        ReferenceFreeDPO,
        SimPO,
        ORPO,
        CPO,
        KTO,
        GRPO,
        DrGRPO,
        DAPO,
        GSPO,
        CISPO,
        RLOO,
        ReinforcePlusPlus,
        ReMax,
        PPO,
    )
}
"""Name in a recipe -> class; its fields are the settings, its ``stage`` is the kind of stage that trains with it."""

PRESETS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "ipo": ipo.PRESETS,
    "robust_dpo": robust_dpo.PRESETS,
    "dpo_length_normalised": dpo_length_normalised.PRESETS,
    "dpo_sft": dpo_sft.PRESETS,
    "beta_dpo": beta_dpo.PRESETS,
    "simpo": simpo.PRESETS,
    "orpo": orpo.PRESETS,
    "cpo": cpo.PRESETS,
    "grpo": grpo.PRESETS,
    "dr_grpo": dr_grpo.PRESETS,
    "dapo": dapo.PRESETS,
    "gspo": gspo.PRESETS,
    "rloo": rloo.PRESETS,
    "ppo": ppo.PRESETS,
}
"""Objective -> name of a preset (paper, trl, …) -> recipe settings, where the paper and a library differ."""
