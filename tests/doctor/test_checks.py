"""What the table says a detector needs is what it can run on, and no fewer values make it speak."""

import math

import pytest

from trimpot.detectors import DETECTORS
from trimpot.detectors.windows import make_window
from trimpot.doctor.checks import (
    ALL,
    CHECKS,
    POLICY,
    PREFERENCE,
    REWARD,
    SUPERVISED,
    check_of,
    detectors_for,
    kinds_of,
    settings_in_trl,
)
from trimpot.doctor.log import RawLog, clean

RISING = [0.2 + 0.04 * step for step in range(24)]
OTHER_WAYS = {
    ("loss_spike", ("grad_norm",)): {"grad_norm": [1.0, math.nan]},
    ("nothing_supervised", ("loss",)): {"loss": [2.0, 0.0]},
    ("end_not_learned", ("end_tokens_per_sequence",)): {"end_tokens_per_sequence": [1.0, *[0.0] * 6]},
    ("end_not_learned", ("end_token_logprob",)): {"end_token_logprob": [-6.0] * 24},
    ("flipped_labels", ("held_out/gold_accuracy", "rewards/accuracies")): {
        "held_out/gold_accuracy": [0.8] * 12,
        "rewards/accuracies": [0.5, 0.6] * 6,
    },
    ("flipped_labels", ("rewards/accuracies", "loss")): {"rewards/accuracies": [0.5] * 30, "loss": [0.7] * 30},
    ("flipped_labels", ("accuracy", "loss")): {"accuracy": [0.5] * 30, "loss": [0.7] * 30},
    ("margin_saturation", ("margin", "accuracy", "loss")): {
        "margin": [15.0] * 6,
        "accuracy": [1.0] * 6,
        "loss": [0.001] * 6,
    },
    ("chosen_logprob_falling", ("logps/chosen", "rewards/margins")): {
        "logps/chosen": [-40.0 - step - 0.1 * (step % 2) for step in range(30)],
        "rewards/margins": [0.1 * step for step in range(30)],
    },
    ("wrong_reference", ("logratio/rejected",)): {"logratio/rejected": [2.0, 2.0]},
    ("wrong_reference", ("rewards/chosen",)): {"rewards/chosen": [0.3, 0.3]},
    ("wrong_reference", ("rewards/rejected",)): {"rewards/rejected": [0.3, 0.3]},
    ("wrong_reference", ("kl", "reward")): {"kl": [0.2, 0.2], "reward": [1.0, 1.0]},
    ("stale_rollouts", ("sampling/sampling_logp_difference/mean",)): {
        "sampling/sampling_logp_difference/mean": [0.1, 2.0]
    },
}
"""(detector, metrics) -> a series of these metrics alone on which it fires, where its own does not do."""
WAYS = [(name, need) for name in DETECTORS if name in CHECKS for need in CHECKS[name].needs]


@pytest.mark.parametrize(
    ("name", "need"), WAYS, ids=lambda value: value if isinstance(value, str) else "+".join(value.metrics)
)
def test_a_detector_runs_on_what_it_is_said_to_need_and_on_no_fewer_values(name, need):
    detector = DETECTORS[name]()
    own = {metric: detector.trips_on[metric] for metric in need.metrics if metric in detector.trips_on}
    series = OTHER_WAYS.get((name, need.metrics), own)
    assert set(series) == set(need.metrics)
    length = len(next(iter(series.values())))
    windows = [
        make_window(**{metric: values[:count] for metric, values in series.items()}) for count in range(1, length + 1)
    ]
    fired = [count for count, window in enumerate(windows, start=1) if detector.scan(window) is not None]
    assert fired
    assert fired[0] >= need.least(detector)
    for metric in need.metrics:
        rest = {name: values for name, values in series.items() if name != metric}
        if rest and name != "chosen_logprob_falling":
            found = [
                detector.scan(make_window(**{one: values[:count] for one, values in rest.items()}))
                for count in range(1, length + 1)
            ]
            assert found == [None] * length, f"it fires without {metric}"


def test_a_detector_that_the_table_does_not_know_needs_what_it_trips_on(monkeypatch):
    detector = DETECTORS["kl_blow_up"]()
    monkeypatch.delitem(CHECKS, "kl_blow_up")
    check = check_of(detector)
    assert check.needs[0].metrics == ("kl", "reward")
    assert check.kinds == ALL


def test_beta_reaches_the_detectors_that_know_it():
    given = {one.name: getattr(one, "beta", None) for one in detectors_for(0.02)}
    assert given["wrong_reference"] == given["chosen_logprob_falling"] == 0.02
    assert given["loss_spike"] is None
    assert [one.name for one in detectors_for(None)] == list(DETECTORS)


@pytest.mark.parametrize(
    ("metrics", "kinds"),
    [
        ({"loss": 1.0}, (SUPERVISED,)),
        ({"loss": 1.0, "rewards/margins": 0.1}, (PREFERENCE,)),
        ({"loss": 1.0, "margin": 0.1, "accuracy": 0.5}, (REWARD,)),
        ({"loss": 1.0, "reward": 0.1}, (POLICY,)),
        ({"loss": 1.0, "reward": 0.1, "rewards/margins": 0.2}, (PREFERENCE, POLICY)),
    ],
)
def test_the_kind_of_training_follows_from_the_metrics(metrics, kinds):
    assert kinds_of(clean(RawLog("x", "CSV", [{"step": 1, **metrics}]))) == kinds


def test_settings_of_trl_are_those_of_the_run():
    assert settings_in_trl(CHECKS["gradient_norm"], (POLICY,))[0] == "GRPOConfig.learning_rate"
    assert settings_in_trl(CHECKS["wrong_reference"], (POLICY,)) == ("GRPOConfig.disable_dropout",)
    assert settings_in_trl(CHECKS["flipped_labels"], (REWARD,)) == ()
