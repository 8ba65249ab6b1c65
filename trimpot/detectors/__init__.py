"""Known failures of training, each a small pure function of the metrics; watched live or in a log."""

from trimpot.core.findings import Detector
from trimpot.detectors.chosen_logprob_falling import ChosenLogprobFalling
from trimpot.detectors.clip_fraction import ClipFraction
from trimpot.detectors.critic_worse_than_constant import CriticWorseThanConstant
from trimpot.detectors.dead_units import DeadUnits
from trimpot.detectors.end_not_learned import EndNotLearned
from trimpot.detectors.entropy_collapse import EntropyCollapse
from trimpot.detectors.flipped_labels import FlippedLabels
from trimpot.detectors.gradient_norm import GradientNorm
from trimpot.detectors.kl_blow_up import KLBlowUp
from trimpot.detectors.kl_negative import KLNegative
from trimpot.detectors.length_exploitation import LengthExploitation
from trimpot.detectors.length_growth import LengthGrowth
from trimpot.detectors.loss_spike import LossSpike
from trimpot.detectors.margin_saturation import MarginSaturation
from trimpot.detectors.nonfinite_activations import NonfiniteActivations
from trimpot.detectors.nothing_supervised import NothingSupervised
from trimpot.detectors.over_optimisation import OverOptimisation
from trimpot.detectors.prompt_leak import PromptLeak
from trimpot.detectors.reward_drift import RewardDrift
from trimpot.detectors.reward_hacking import RewardHacking
from trimpot.detectors.reward_length_correlation import RewardLengthCorrelation
from trimpot.detectors.sampler_mismatch import SamplerMismatch
from trimpot.detectors.stale_rollouts import StaleRollouts
from trimpot.detectors.template_mismatch import TemplateMismatch
from trimpot.detectors.truncated_completions import TruncatedCompletions
from trimpot.detectors.update_ratio import UpdateRatio
from trimpot.detectors.verifier_errors import VerifierErrors
from trimpot.detectors.wrong_reference import WrongReference
from trimpot.detectors.zero_variance_groups import ZeroVarianceGroups

DETECTORS: dict[str, type[Detector]] = {
    # Every stage
    "loss_spike": LossSpike,
    "gradient_norm": GradientNorm,
    # Every stage, with the health probe
    "update_ratio": UpdateRatio,
    "nonfinite_activations": NonfiniteActivations,
    "dead_units": DeadUnits,
    # Supervised fine-tuning
    "nothing_supervised": NothingSupervised,
    "end_not_learned": EndNotLearned,
    "template_mismatch": TemplateMismatch,
    "prompt_leak": PromptLeak,
    # Pairs: reward models and preferences
    "flipped_labels": FlippedLabels,
    "margin_saturation": MarginSaturation,
    "reward_length_correlation": RewardLengthCorrelation,
    "reward_drift": RewardDrift,
    "chosen_logprob_falling": ChosenLogprobFalling,
    "wrong_reference": WrongReference,
    # Policy gradient: what the reward pays
    "over_optimisation": OverOptimisation,
    "reward_hacking": RewardHacking,
    "length_exploitation": LengthExploitation,
    "verifier_errors": VerifierErrors,
    # Policy gradient: the completions
    "zero_variance_groups": ZeroVarianceGroups,
    "entropy_collapse": EntropyCollapse,
    "truncated_completions": TruncatedCompletions,
    "length_growth": LengthGrowth,
    "stale_rollouts": StaleRollouts,
    "sampler_mismatch": SamplerMismatch,
    # Policy gradient: the update
    "kl_blow_up": KLBlowUp,
    "kl_negative": KLNegative,
    "clip_fraction": ClipFraction,
    "critic_worse_than_constant": CriticWorseThanConstant,
}
