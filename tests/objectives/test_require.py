import pytest
import torch

from trimpot.core.tensors import Streams
from trimpot.objectives.require import optional, require, require_pairs


def streams(**given: torch.Tensor) -> Streams:
    return Streams(torch.tensor([0, 0, 1]), sequences=2, **given)


def test_streams_come_back_in_the_order_asked_for():
    logprob_N, reward_S = torch.zeros(3), torch.ones(2)
    found = require(streams(logprob_N=logprob_N, reward_S=reward_S), "dpo", "reward_S", "logprob_N")
    assert found[0] is reward_S
    assert found[1] is logprob_N


def test_a_missing_stream_is_named():
    with pytest.raises(ValueError, match="dpo needs the stream reference_logprob_N"):
        require(streams(), "dpo", "reference_logprob_N")


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [("logprob_N", (2,), r"\[2\], expected \[3\]"), ("reward_S", (2, 1), r"\[2, 1\], expected \[2\]")],
)
def test_a_misshapen_stream_is_named_with_both_shapes(name, shape, expected):
    with pytest.raises(ValueError, match=f"{name} has shape {expected}"):
        require(streams(**{name: torch.zeros(shape)}), "dpo", name)


def test_an_optional_stream_may_be_missing_but_not_misshapen():
    assert optional(streams(), "sft", "weight_N") is None
    with pytest.raises(ValueError, match="weight_N"):
        optional(streams(weight_N=torch.ones(1)), "sft", "weight_N")


def test_pairs_need_an_even_number_of_sequences():
    require_pairs(streams(), "dpo")
    with pytest.raises(ValueError, match="3 sequences"):
        require_pairs(Streams(torch.tensor([0, 1, 2]), sequences=3), "dpo")
