"""Known failures of training, each a small pure function of the metrics; watched live or in a log."""

from trimpot.core.findings import Detector
from trimpot.detectors.chosen_logprob_falling import ChosenLogprobFalling
from trimpot.detectors.entropy_collapse import EntropyCollapse
from trimpot.detectors.loss_spike import LossSpike
from trimpot.detectors.nothing_supervised import NothingSupervised
from trimpot.detectors.reward_length_correlation import RewardLengthCorrelation
from trimpot.detectors.truncated_completions import TruncatedCompletions
from trimpot.detectors.zero_variance_groups import ZeroVarianceGroups

DETECTORS: dict[str, type[Detector]] = {
    "loss_spike": LossSpike,
    "nothing_supervised": NothingSupervised,
    "chosen_logprob_falling": ChosenLogprobFalling,
    "reward_length_correlation": RewardLengthCorrelation,
    "zero_variance_groups": ZeroVarianceGroups,
    "entropy_collapse": EntropyCollapse,
    "truncated_completions": TruncatedCompletions,
}
