"""kl_blow_up, kl_negative, clip_fraction, critic, sampler, verifier, gradient norm: cuts, windows, gaps."""

import pytest

from trimpot.detectors.clip_fraction import ClipFraction
from trimpot.detectors.critic_worse_than_constant import CriticWorseThanConstant
from trimpot.detectors.gradient_norm import GradientNorm
from trimpot.detectors.kl_blow_up import KLBlowUp
from trimpot.detectors.kl_negative import KLNegative
from trimpot.detectors.sampler_mismatch import SamplerMismatch
from trimpot.detectors.stale_rollouts import StaleRollouts
from trimpot.detectors.verifier_errors import VerifierErrors
from trimpot.detectors.windows import make_window

NAN = float("nan")


def scan(detector, **series):
    return detector.scan(make_window(**series))


@pytest.mark.parametrize(
    ("detector", "metric", "above", "at", "steps"),
    [
        (KLBlowUp(), "kl", 2.01, 2.0, 5),
        (ClipFraction(), "clip_ratio__region_mean", 0.31, 0.3, 5),
        (SamplerMismatch(), "sampling__sampling_logp_difference__mean", 0.021, 0.02, 3),
        (GradientNorm(), "grad_norm", 101.0, 100.0, 3),
    ],
)
def test_means_of_the_newest_steps_against_a_cut(detector, metric, above, at, steps):
    def run(values):
        return scan(detector, **{metric: values}, **({"reward": [0.1] * len(values)} if metric == "kl" else {}))

    assert run([above] * steps).value == pytest.approx(above)
    assert run([at] * steps) is None
    assert run([above] * (steps - 1)) is None
    assert run([above] * steps + [None]) is None
    assert run([above] * steps + [NAN]) is None
    assert run([NAN, above, None] + [above] * (steps - 1)).value == pytest.approx(above)


def test_the_mend_of_clipping_names_both_objectives_settings():
    mend = scan(ClipFraction(), clip_ratio__region_mean=[0.5] * 5).mend
    assert "policy_gradient.clip_high" in mend
    assert "PPO policy_gradient.clip)" in mend


def test_a_kl_without_a_reward_is_of_another_kind():
    assert scan(KLBlowUp(), kl=[9.0] * 5) is None
    assert scan(KLNegative(), kl=[-9.0] * 10) is None


def test_kl_negative_is_below_zero_beyond_chance():
    def run(values):
        return scan(KLNegative(), kl=values, reward=[0.1] * len(values))

    assert run([-0.02] * 10).value == pytest.approx(-0.02)
    assert run([-0.01] * 10) is None
    assert run([-0.02] * 9) is None
    assert run([-0.3, 0.26] * 5) is None  # the mean is -0.02, its standard error 0.09
    assert run([0.5] * 5 + [-0.02] * 10)
    assert run([-0.02] * 10 + [NAN]) is None


def test_a_critic_is_judged_by_the_median_after_its_warm_up():
    def run(values):
        return scan(CriticWorseThanConstant(), value__explained_variance=values)

    assert run([-0.1] * 20).value == pytest.approx(-0.1)
    assert run([0.0] * 20) is None
    assert run([-0.1] * 19) is None
    assert run([-0.1] * 10 + [0.1] * 10) is None
    assert run([0.1] * 16 + [-99.0] * 4) is None
    assert run([0.1] * 10 + [-0.1] * 6 + [0.1] * 4).value == pytest.approx(-0.1)
    assert run([NAN, None] + [-0.1] * 19) is None


def test_rollouts_of_other_weights():
    detector = StaleRollouts()
    assert scan(detector, sampling__weights_match=[1.0, 0.0]).metric == "sampling/weights_match"
    assert scan(detector, sampling__weights_match=[0.0, 1.0]) is None
    assert scan(detector, sampling__weights_match=[0.0, None]) is None
    far = {"sampling__sampling_logp_difference__mean": [0.1, 1.1]}
    assert scan(detector, **far).value == 1.1
    assert scan(detector, sampling__sampling_logp_difference__mean=[0.1, 1.0]) is None
    assert scan(detector, sampling__weights_match=[1.0, 1.0], **far) is None
    assert scan(detector, sampling__weights_match=[1.0, NAN], **far).value == 1.1


def test_one_failed_completion_is_heard():
    assert scan(VerifierErrors(), reward__error_rate=[0.0, 1 / 512]).value == 1 / 512
    for quiet in ([0.5, 0.0], [0.5, None], [0.5, NAN]):
        assert scan(VerifierErrors(), reward__error_rate=quiet) is None


def test_a_gradient_of_zero_in_three_steps():
    finding = scan(GradientNorm(), grad_norm=[1.0, 0.0, 0.0, 0.0])
    assert (finding.value, finding.threshold) == (0.0, 0.0)
    assert scan(GradientNorm(), grad_norm=[1.0, 0.0, 0.0]) is None
    assert scan(GradientNorm(), grad_norm=[0.0, 0.0, 1e-9]) is None
    assert scan(GradientNorm(), grad_norm=[0.0] * 5, reward=[0.1] * 5) is None


def test_a_gradient_of_zero_is_heard_in_online_preferences_although_there_is_a_reward():
    online = {"reward": [0.1] * 5, "rewards__margins": [0.2] * 5}
    assert scan(GradientNorm(), grad_norm=[0.0] * 5, **online).value == 0.0


def test_one_large_gradient_is_none_of_its_business():
    assert scan(GradientNorm(), grad_norm=[1.0, 900.0, 1.0]) is None
    assert scan(GradientNorm(), grad_norm=[900.0, 1.0, 900.0]).value == 900.0
