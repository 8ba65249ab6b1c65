"""Load a model, attend packed documents one by one, score targets, choose what trains, export a plain folder."""

from trimpot.models.load import load
from trimpot.models.policy import Policy, TokenScores
from trimpot.models.reward import RewardModel

__all__ = ["Policy", "RewardModel", "TokenScores", "load"]
