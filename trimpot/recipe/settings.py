"""Settings of a recipe's stages that belong to no single part below: where rows and model come from, who judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trimpot.core.settings import setting

ENSEMBLE = "+"
"""Joins the reward models of an ensemble in one name: ``stage:reward+stage:reward-2``."""


@dataclass(frozen=True)
class StartSettings:
    """Which model a stage begins with, and how long it goes on."""

    start: str | None = setting(
        None, "base, or the stage whose model this one begins with; default: the model as it is then"
    )
    compute_of: str | None = setting(
        None, "an earlier stage: train until as many floating-point operations are spent as it took, in place of steps"
    )


@dataclass(frozen=True)
class RowsSettings:
    """Which rows a stage trains on."""

    data: str | None = setting(
        None,
        "a file, a data set saved by the datasets library (its split train), embedded:NAME, or stage:NAME for the rows"
        " that an earlier stage wrote",
    )
    rows: int | None = setting(None, "use at most this many rows", at_least=1)


@dataclass(frozen=True)
class DataSettings:
    """Rows constructed from samples: preference pairs, the right ones alone, or a teacher's answers."""

    prompts: str | None = setting(
        None, "rows with a verifier: a file, a saved data set (its split pairs, else train) or embedded:NAME"
    )
    rows: int | None = setting(None, "use at most this many prompts", at_least=1)
    method: str = setting(
        "pairs",
        "pairs: a right over a wrong sample; rejection: the right samples; distillation: the teacher's samples",
        choices=("pairs", "rejection", "distillation"),
    )
    teacher: str | None = setting(None, "the model that distillation samples from: a name or folder")
    samples: int = setting(8, "completions sampled of each prompt", at_least=1)
    per_prompt: int = setting(1, "rejection, distillation: distinct completions kept of each prompt", at_least=1)
    temperature: float = setting(1.0, "of the samples", at_least=0)
    max_tokens: int = setting(24, "longest completion in tokens", at_least=1)
    start: str | None = setting(None, "base, or the stage whose model samples; default: the model as it is then")


@dataclass(frozen=True)
class OnlineSettings:
    """Preference pairs from the policy's own samples in every step, in place of rows."""

    online: bool = setting(False, "sample the pairs from the policy as it trains; data is then prompts")
    samples: int = setting(2, "completions of each prompt, of which best and worst make the pair", "TRL", at_least=2)
    rewards: Mapping[str, float] | None = setting(
        None, "reward name: weight (a verifier, file.py:function, stage:NAME or a model folder); default: the row's"
    )
    reward_time_limit: float = setting(10.0, "seconds that a reward function may take for one completion", above=0)


@dataclass(frozen=True)
class JudgeSettings:
    """How an ensemble of reward models becomes one reward."""

    combine: str = setting(
        "mean",
        "of an ensemble's rewards: the mean, the worst, or the mean less their variance",
        "arXiv 2310.02743",
        choices=("mean", "worst", "uncertainty"),
    )
    uncertainty_weight: float = setting(
        0.5, "what the variance is multiplied by with combine: uncertainty", "arXiv 2310.02743 sec. 5", at_least=0
    )


@dataclass(frozen=True)
class HeldOutSettings:
    """Pairs that a reward model is judged on and never trained on."""

    held_out: float = setting(0.1, "share of the prompts whose rows are held out", at_least=0, at_most=0.9)
    trusted: str | None = setting(
        None, "a file of pairs with labels beyond doubt: the accuracy on them, as training goes, shows wrong labels"
    )
    trusted_every: int = setting(2, "steps from one measurement on the trusted pairs to the next", at_least=1)
