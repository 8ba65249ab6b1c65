"""A fully connected network for scikit-learn's digits, small enough that its curvature is measured in milliseconds.

Shape suffixes: N images, I inputs, O outputs of a layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trimpot.core.seeds import seed_for
from trimpot.studies.digits import Digits

WIDTHS = (64, 64, 64, 10)
"""Pixels, two hidden layers, classes: 8970 numbers with the biases."""
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


def initial_weights(seed: int) -> dict[str, Tensor]:
    """Weights ``w1`` [O, I] … uniform within √(6/inputs) (He et al. 2015, for ReLU), biases ``b1`` … 0."""
    draw = torch.Generator().manual_seed(seed_for(seed, "weights"))
    weights = {}
    for number, (inputs, width) in enumerate(itertools.pairwise(WIDTHS), start=1):
        bound = math.sqrt(6 / inputs)
        weights[f"w{number}"] = ((2 * torch.rand((width, inputs), generator=draw) - 1) * bound).requires_grad_()
        weights[f"b{number}"] = torch.zeros(width, requires_grad=True)
    return weights


def outputs(weights: Mapping[str, Tensor], images_N: Tensor, activation: str = "relu") -> Tensor:
    """The ten outputs of every image, [N, 10]."""
    hidden, last = images_N.flatten(1), len(WIDTHS) - 1
    for number in range(1, last):
        hidden = ACTIVATIONS[activation](torch.addmm(weights[f"b{number}"], hidden, weights[f"w{number}"].T))
    return torch.addmm(weights[f"b{last}"], hidden, weights[f"w{last}"].T)


def descend(data: Digits, batch: int, passes: int, rate: float, seed: int) -> dict[str, Tensor]:
    """The weights after plain gradient descent on mini-batches, at a constant rate; arms of a seed begin alike."""
    weights = initial_weights(seed)
    order = torch.Generator().manual_seed(seed_for(seed, "order"))
    optimizer = torch.optim.SGD(list(weights.values()), lr=rate)
    for _ in range(passes):
        for chosen in torch.randperm(len(data), generator=order).split(batch):
            loss = cross_entropy(outputs(weights, data.images_N[chosen]), data.labels_N[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return weights


@torch.no_grad()
def error(weights: Mapping[str, Tensor], data: Digits) -> float:
    """How many of 100 images the largest output misnames."""
    return 100 * float((outputs(weights, data.images_N).argmax(1) != data.labels_N).double().mean())
