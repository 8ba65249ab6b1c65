"""Kept gradients: the same updates as without, none for parameters that a step does not reach, and none left behind."""

import torch

from trimpot.training.gradients import KeptGradients


def test_backward_passes_add_to_the_kept_tensors():
    value = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    with KeptGradients([value]) as kept:
        for _ in range(2):
            kept.begin()
            memory = value.grad.data_ptr()
            (3 * value).sum().backward()
            value.pow(2).sum().backward()
            kept.end()
            assert value.grad.tolist() == [5.0, 7.0]
            assert value.grad.data_ptr() == memory


def test_a_parameter_that_no_pass_reaches_has_no_gradient():
    used, idle = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    with KeptGradients([used, idle]) as kept:
        kept.begin()
        (used.sum() + idle.sum()).backward()
        kept.end()
        assert idle.grad is not None
        kept.begin()
        used.sum().backward()
        kept.end()
    assert used.grad.tolist() == [1.0, 1.0]
    assert idle.grad is None


def test_nothing_is_left_at_the_end():
    value = torch.nn.Parameter(torch.ones(1))
    with KeptGradients([value]) as kept:
        kept.begin()
    value.sum().backward()
    kept.end()
    assert value.grad is None, "the hook is gone: nothing tells that a pass reached the parameter"
