"""What a reward model is worth on held-out rows: accuracy, margin, calibration, length, and baselines without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from trimpot.core.hashing import content_hash
from trimpot.core.rows import Message, PreferencePair, Row, StepsRow
from trimpot.core.samples import Sample
from trimpot.core.seeds import seed_for
from trimpot.core.stats import Estimate, Stat
from trimpot.core.tensors import Batch, pack_one
from trimpot.data.prepare import tokenise
from trimpot.data.template import ChatTemplate
from trimpot.models.reward import RewardModel
from trimpot.statistics.calibration import (
    brier_score,
    calibration_noise,
    expected_calibration_error,
    pair_confidences,
)
from trimpot.statistics.correlation import pearson
from trimpot.statistics.intervals import mean_interval, wilson
from trimpot.statistics.paired import paired_difference

ROWS_AT_A_TIME = 8
ENOUGH_ALIKE = 6
SEED = seed_for(0, "reward report")


@dataclass(frozen=True)
class RewardReport:
    """A reward model on held-out pairs.

    ``accuracy`` is the share of pairs whose chosen answer has the higher reward (a tie counts one half); ``margin`` the
    mean of r⁺ − r⁻; ``calibration_error`` and ``brier`` are of σ(r⁺ − r⁻), ``calibration_noise`` is the error that
    true probabilities would show on so few pairs; ``reward_length_correlation`` is over all answers, in target tokens.
    ``baselines`` are accuracies without the model: ``longer wins``, ``prompt ignored`` (the same model, an empty
    prompt), ``random``; ``gains`` the paired differences of accuracy to each.

    Units: rewards in log-odds (nats), shares in [0, 1].
    Edge cases: no pairs: every value None. Pairs with one prompt count as one unit in intervals.
    """

    pairs: int
    accuracy: Estimate
    margin: Estimate
    calibration_error: Estimate
    calibration_noise: float | None
    brier: Estimate
    reward_length_correlation: Estimate
    baselines: Mapping[str, float | None]
    gains: Mapping[str, Estimate]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, for a stage's record."""
        return asdict(self)

    def sentence(self) -> str:
        """The report in words; says which baselines the model does not beat."""
        if not self.pairs:
            return "no held-out pairs"
        others = ", ".join(f"{name} {_percent(value)}" for name, value in self.baselines.items())
        return (
            f"{self.pairs} held-out pairs: {_share(self.accuracy)} ordered right ({others}); mean margin "
            f"{_number(self.margin.value)}; calibration error {_number(self.calibration_error.value)} "
            f"({_number(self.calibration_noise)} by chance), Brier {_number(self.brier.value)}; reward and length "
            f"correlate at {_number(self.reward_length_correlation.value)}; {_verdict(self.gains)}"
        )


@dataclass(frozen=True)
class StepReport:
    """A process reward model on held-out solutions.

    ``accuracy`` is over steps (judged right where σ(z) > 1/2), ``balanced_accuracy`` the mean of the accuracies on
    right and on wrong steps (1/2 for a constant answer), ``calibration_error``, ``calibration_noise`` and ``brier`` are
    of σ(z), z being the model's logit.
    ``baselines``: ``always the same`` is the accuracy of the commoner label; ``gains`` the difference to it.

    Edge cases: no steps: every value None. Only right or only wrong steps: no balanced accuracy. The steps of a
        solution count as one unit in intervals.
    """

    solutions: int
    steps: int
    accuracy: Estimate
    balanced_accuracy: float | None
    calibration_error: Estimate
    calibration_noise: float | None
    brier: Estimate
    baselines: Mapping[str, float | None]
    gains: Mapping[str, Estimate]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, for a stage's record."""
        return asdict(self)

    def sentence(self) -> str:
        """The report in words; says whether the model beats always giving the commoner label."""
        if not self.steps:
            return "no held-out steps"
        others = ", ".join(f"{name} {_percent(value)}" for name, value in self.baselines.items())
        return (
            f"{self.steps} steps of {self.solutions} held-out solutions: {_share(self.accuracy)} judged as labelled "
            f"({others}), balanced {_percent(self.balanced_accuracy)}; "
            f"calibration error {_number(self.calibration_error.value)} "
            f"({_number(self.calibration_noise)} by chance), Brier {_number(self.brier.value)}; {_verdict(self.gains)}"
        )


@torch.no_grad()
def reward_report(
    model: RewardModel, rows: Sequence[Row], template: ChatTemplate, max_length: int = 1024
) -> RewardReport | StepReport:
    """Judges a reward model on rows it has not trained on: preference pairs, or solutions with labelled steps.

    Raises:
        ValueError: rows of another kind, or of both kinds.
        UsageError: a row does not fit ``max_length`` tokens.
    """
    pairs = [row for row in rows if isinstance(row, PreferencePair)]
    if len(pairs) == len(rows):
        return _report_pairs(model, pairs, template, max_length)
    solutions = [row for row in rows if isinstance(row, StepsRow)]
    if len(solutions) == len(rows):
        return _report_steps(model, solutions, template, max_length)
    raise ValueError("a reward report needs preference pairs or steps rows, and one kind only")


def _report_pairs(
    model: RewardModel, pairs: Sequence[PreferencePair], template: ChatTemplate, max_length: int
) -> RewardReport:
    samples = tokenise(pairs, template, max_length).samples
    blind = tokenise([replace(pair, prompt=(Message("user", ""),)) for pair in pairs], template, max_length).samples
    reward_P2, length_P2 = _rewards(model, samples), _lengths(samples)
    margin_P = reward_P2[:, 0] - reward_P2[:, 1]
    blind_P2 = _rewards(model, blind)
    right = {
        "longer wins": _wins(length_P2[:, 0] - length_P2[:, 1]),
        "prompt ignored": _wins(blind_P2[:, 0] - blind_P2[:, 1]),
        "random": np.full(len(pairs), 0.5),
    }
    prompts = [content_hash([message.as_dict() for message in pair.prompt]) for pair in pairs]
    probability_P = expit(margin_P)
    confidences, correct = pair_confidences(probability_P)
    return RewardReport(
        pairs=len(pairs),
        accuracy=_accuracy(_wins(margin_P), prompts),
        margin=mean_interval(margin_P),
        calibration_error=expected_calibration_error(confidences, correct, low=0.5),
        calibration_noise=calibration_noise(confidences, SEED, low=0.5),
        brier=brier_score(probability_P, np.ones(len(pairs))),
        reward_length_correlation=pearson(reward_P2.ravel(), length_P2.ravel()),
        baselines={name: _mean(values) for name, values in right.items()},
        gains={name: paired_difference(_wins(margin_P), values, prompts) for name, values in right.items()},
    )


def _report_steps(
    model: RewardModel, solutions: Sequence[StepsRow], template: ChatTemplate, max_length: int
) -> StepReport:
    samples = tokenise(solutions, template, max_length).samples
    logits, labels = [], []
    for batch in _batches(model, samples):
        logits += model.scores_of_steps(batch).tolist()
        labels += batch.streams["label_N"].tolist()
    rows = [sample.row_id for sample in samples for _ in range(sample.targets)]
    logit_N, label_N = np.array(logits, dtype=float), np.array(labels, dtype=float)
    right_N = ((logit_N > 0) == (label_N > 0.5)).astype(float)
    common_N = label_N if label_N.sum() * 2 >= len(label_N) else 1 - label_N
    by_class = [_mean(right_N[label_N == label]) for label in (1.0, 0.0)]
    probability_N = expit(logit_N)
    return StepReport(
        solutions=len(solutions),
        steps=len(label_N),
        accuracy=_accuracy(right_N, rows),
        balanced_accuracy=None if None in by_class else _mean(np.array(by_class, dtype=float)),
        calibration_error=expected_calibration_error(probability_N, label_N),
        calibration_noise=calibration_noise(probability_N, SEED),
        brier=brier_score(probability_N, label_N),
        baselines={"always the same": _mean(common_N)},
        gains={"always the same": paired_difference(right_N, common_N, rows)},
    )


def _batches(model: RewardModel, samples: Sequence[Sample]) -> Iterator[Batch]:
    for low in range(0, len(samples), ROWS_AT_A_TIME):
        yield pack_one(samples[low : low + ROWS_AT_A_TIME], str(model.device))


def _rewards(model: RewardModel, samples: Sequence[Sample]) -> np.ndarray:
    """[pairs, 2]: chosen, rejected."""
    values = [value for batch in _batches(model, samples) for value in model.rewards(batch).tolist()]
    return np.array(values, dtype=float).reshape(-1, 2)


def _lengths(samples: Sequence[Sample]) -> np.ndarray:
    """[pairs, 2]: target tokens of chosen and rejected."""
    return np.array([[branch.targets for branch in one.branches] for one in samples], dtype=float).reshape(-1, 2)


def _wins(difference: np.ndarray) -> np.ndarray:
    """1 where the chosen answer is ahead, 0 where it is behind, 1/2 for a tie."""
    return (1 + np.sign(difference)) / 2


def _accuracy(right: np.ndarray, units: Sequence[str]) -> Estimate:
    """Wilson's interval where every case is a unit of its own, else Student's t over the units."""
    if len(set(units)) == len(units):
        return wilson(float(right.sum()), len(right))
    return paired_difference(right, np.zeros_like(right), units)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def beats(gain: Estimate) -> bool:
    """Whether a gain is shown to be above 0: its interval is, and units without any spread are at least 6.

    Gains that are all alike give an interval without width, however few they are; the exact sign test at 5% then asks
    for 2·(1/2)ⁿ < 0.05, which is n ≥ 6.
    """
    if gain.low is None or gain.high is None or gain.low <= 0:
        return False
    return gain.high - gain.low > 1e-12 or gain.n >= ENOUGH_ALIKE


def _verdict(gains: Mapping[str, Estimate]) -> str:
    missed = [name for name, gain in gains.items() if not beats(gain)]
    return f"not shown to beat {', '.join(missed)}" if missed else f"beats {', '.join(gains)}"


def _share(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return _percent(estimate.value)
    return f"{_percent(estimate.value)} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.0f}%"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


@torch.no_grad()
def gold_accuracy(model: RewardModel, pairs: Sequence[Sample]) -> dict[str, Stat]:
    """``held_out/gold_accuracy``: the share of pairs with trusted labels whose chosen answer has the higher reward.

    A tie counts as wrong. Edge cases: no pair: no value.
    """
    reward_P2 = _rewards(model, pairs)
    return {"held_out/gold_accuracy": Stat(float((reward_P2[:, 0] > reward_P2[:, 1]).sum()), float(len(pairs)))}
