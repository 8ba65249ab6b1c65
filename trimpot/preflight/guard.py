"""Puts back what a check may touch: weights, gradients, flags and every random state."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from trimpot.training.streams import Trainee


@contextlib.contextmanager
def as_it_was(trainee: Trainee | None, weights: bool) -> Iterator[None]:
    """Within it a check does what it likes; afterwards everything is bitwise what it was, also after an exception.

    Gradients, ``requires_grad``, dropout's mode, and the random states of Python, numpy and torch are always put back;
    the weights that train with ``weights``, which costs a copy of them for as long as the check lasts.
    """
    with _random_states():
        if trainee is None:
            yield
            return
        modules = [model.model for model in trainee.models().values()]
        parameters = {id(value): value for module in modules for value in module.parameters()}
        parameters.update({id(value): value for value in trainee.trainable().values()})
        flags = [(value, value.requires_grad, value.grad) for value in parameters.values()]
        modes = [(module, module.training) for top in modules for module in top.modules()]
        trained = trainee.trainable() if weights else {}
        kept = {name: value.detach().clone() for name, value in trained.items()}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in trained.items():
                    value.copy_(kept[name])
            for value, flag, gradient in flags:
                value.requires_grad_(flag)
                value.grad = gradient
            for module, mode in modes:
                module.training = mode


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
