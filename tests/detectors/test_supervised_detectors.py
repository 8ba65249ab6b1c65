"""end_not_learned, template_mismatch, prompt_leak: exact values, just below, gaps, enough steps."""

import pytest

from trimpot.detectors.end_not_learned import EndNotLearned
from trimpot.detectors.prompt_leak import PromptLeak
from trimpot.detectors.template_mismatch import TemplateMismatch
from trimpot.detectors.windows import make_window

NAN = float("nan")
ENDS = "end_tokens_per_sequence"


def ends(**series):
    return EndNotLearned().scan(make_window(**series))


def test_no_end_among_the_targets_of_five_steps():
    finding = ends(end_tokens_per_sequence=[1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert (finding.metric, finding.value, finding.threshold) == (ENDS, 0.0, 0.0)
    assert ends(end_tokens_per_sequence=[0.0] * 4) is None
    assert ends(end_tokens_per_sequence=[0.125, 0.0, 0.0, 0.0, 0.0]) is None
    assert ends(end_tokens_per_sequence=[0.0] * 5 + [None]) is None
    assert ends(end_tokens_per_sequence=[0.0, NAN, None, 0.0, 0.0, 0.0, 0.0]).metric == ENDS


def test_an_end_that_stays_unlikely_after_twenty_steps():
    assert ends(end_token_logprob=[-2.4] * 20).value == pytest.approx(-2.4)
    assert ends(end_token_logprob=[-2.3] * 20) is None
    assert ends(end_token_logprob=[-9.0] * 19) is None
    assert ends(end_token_logprob=[-9.0] * 15 + [-1.0] * 5) is None
    assert ends(end_token_logprob=[NAN] * 9 + [-2.4] * 19) is None
    assert ends(end_token_logprob=[NAN] * 9 + [-2.4] * 20)


def test_an_end_no_less_learned_than_other_tokens_is_no_fault():
    assert ends(end_token_logprob=[-4.0] * 24, loss=[3.5] * 24) is None
    assert ends(end_token_logprob=[-4.0] * 24, loss=[2.5] * 24) is not None


def test_template_mismatch_is_exact_and_about_the_newest_step():
    detector = TemplateMismatch()
    assert detector.scan(make_window(template_matches=[1.0, 0.0])).value == 0.0
    for quiet in ([0.0, 1.0], [0.0, None], [0.0, NAN]):
        assert detector.scan(make_window(template_matches=quiet)) is None


def test_prompt_leak_sees_one_token_in_ten_thousand():
    detector = PromptLeak()
    assert detector.scan(make_window(prompt_tokens_share=[0.0, 1e-4])).message.startswith("0.01%")
    for quiet in ([0.5, 0.0], [0.5, None], [0.5, NAN]):
        assert detector.scan(make_window(prompt_tokens_share=quiet)) is None
