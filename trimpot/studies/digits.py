"""The digits that come with scikit-learn, and LeCun's network of 1989 for them, trained by old and new means.

Shape suffixes: N images, B images of a batch, M maps of layer H2 with their places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, pad

from trimpot.core.errors import UsageError
from trimpot.core.seeds import seed_for, stream

IMAGES, TEST = 1797, 600
BACKGROUND, DROPOUT, BATCH = -1.0, 0.25, 16
SHAPES = {"h1": (12, 1, 3, 3), "h2": (12, 12, 5, 5), "h3": (30, 192), "out": (10, 30)}
"""Maps of 8 × 8, maps of 4 × 4, a layer of 30 and one of 10, as in 1989; 9832 numbers with the biases, then 9760."""

RATES = {"sgd": 0.03, "adamw": 3e-4}
"""The learning rates of Karpathy's lecun1989-repro, which tuning multiplies."""


@dataclass(frozen=True)
class Digits:
    """Images [N, 1, 8, 8], from −1 (background) to 1, and their labels [N]."""

    images_N: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True)
class Rung:
    """What one arm of the ladder does.

    ``loss``: squared (tanh of the outputs against −1 and 1) or cross-entropy. ``optimizer``: sgd at a constant rate, or
    adamw with its default weight decay and a rate that falls to a third. ``activation``: tanh or relu. ``shift``: how
    far images move, in pixels, anew in every pass. ``dropout``: share of H2's outputs that a step leaves out.
    ``images``: how many are trained on, ``passes`` times each.
    """

    loss: str
    optimizer: str
    activation: str
    shift: int
    dropout: float
    images: int
    passes: int


@cache
def digits() -> Digits:
    """All 1797 images of scikit-learn's ``load_digits``, in its order.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("scikit-learn", "is not installed, and the digits come with it", "Install it.") from error
    bunch = load_digits()
    images_N = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 8 - 1
    return Digits(images_N, torch.tensor(bunch.target, dtype=torch.long))


def split(seed: int, images: int) -> tuple[Digits, Digits]:
    """The first ``images`` of the seed's 1197 to train on, and its 600 to test on, whatever ``images`` is.

    Raises:
        ValueError: more images are asked for than there are.
    """
    order = list(range(IMAGES))
    stream(seed, "digits").shuffle(order)
    test, train = order[:TEST], order[TEST:]
    if images > len(train):
        raise ValueError(f"{images} images are asked for, but there are {len(train)}")
    whole = digits()
    first, last = (Digits(whole.images_N[part], whole.labels_N[part]) for part in (train[:images], test))
    return first, last


def initial_weights(seed: int) -> dict[str, Tensor]:
    """Weights uniform within 2.4/√inputs, biases 0, as Karpathy reads the paper."""
    draw = torch.Generator().manual_seed(seed_for(seed, "weights"))
    weights = {}
    for name, shape in SHAPES.items():
        bound = 2.4 / math.sqrt(math.prod(shape[1:]))
        weights[name] = ((2 * torch.rand(shape, generator=draw) - 1) * bound).requires_grad_()
        weights[f"{name}.bias"] = torch.zeros(shape[0], requires_grad=True)
    return weights


def outputs(weights: Mapping[str, Tensor], images_B: Tensor, activation: str, kept_BM: Tensor | None = None) -> Tensor:
    """The ten outputs of every image, [B, 10]; ``kept_BM`` multiplies what H3 reads (dropout)."""
    active = torch.tanh if activation == "tanh" else torch.relu
    h1 = active(conv2d(pad(images_B, (1, 1, 1, 1), value=BACKGROUND), weights["h1"], weights["h1.bias"]))
    h2_BM = active(conv2d(h1, weights["h2"], weights["h2.bias"], stride=2, padding=2)).flatten(1)
    h2_BM = h2_BM if kept_BM is None else h2_BM * kept_BM
    h3 = active(torch.addmm(weights["h3.bias"], h2_BM, weights["h3"].T))
    return torch.addmm(weights["out.bias"], h3, weights["out"].T)


def loss_of(outputs_B: Tensor, labels_B: Tensor, loss: str) -> Tensor:
    """Cross-entropy of the outputs, or the mean squared distance of their tanh from −1, and 1 at the label."""
    if loss == "cross-entropy":
        return cross_entropy(outputs_B, labels_B)
    targets_B = torch.full_like(outputs_B, -1.0).scatter_(1, labels_B[:, None], 1.0)
    return (outputs_B.tanh() - targets_B).square().mean()


def shifted(images_N: Tensor, by: int) -> Tensor:
    """Every image moved by −by … by pixels down and right, background where it left: [(2 by + 1)², N, 1, 8, 8]."""
    height, width = images_N.shape[-2:]
    wide = pad(images_N, (by, by, by, by), value=BACKGROUND)
    span = range(2 * by + 1)
    return torch.stack([wide[..., top : top + height, left : left + width] for top in span for left in span])


def fit(rung: Rung, rate: float, data: Digits, seed: int) -> dict[str, Tensor]:
    """The weights after training; ``rate`` multiplies the optimiser's own rate (RATES).

    Weights, order, shifts and dropout have a random stream each, so arms of a seed begin alike and see one order.
    """
    weights = initial_weights(seed)
    order, shifts, drops = (torch.Generator().manual_seed(seed_for(seed, name)) for name in ("order", "shift", "drop"))
    rate *= RATES[rung.optimizer]
    kind = torch.optim.SGD if rung.optimizer == "sgd" else torch.optim.AdamW
    optimizer = kind(list(weights.values()), lr=rate, fused=True)
    images = shifted(data.images_N, rung.shift)
    for number in range(rung.passes):
        if rung.optimizer == "adamw":
            optimizer.param_groups[0]["lr"] = rate * (1 - 2 / 3 * number / max(1, rung.passes - 1))
        for chosen in torch.randperm(len(data), generator=order).split(BATCH):
            moved = torch.randint(len(images), (len(chosen),), generator=shifts)
            kept_BM = None
            if rung.dropout:
                drawn_BM = torch.rand(len(chosen), SHAPES["h3"][1], generator=drops)
                kept_BM = (drawn_BM >= rung.dropout) / (1 - rung.dropout)
            loss = loss_of(
                outputs(weights, images[moved, chosen], rung.activation, kept_BM), data.labels_N[chosen], rung.loss
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return weights


@torch.no_grad()
def error(weights: Mapping[str, Tensor], data: Digits, activation: str) -> float:
    """How many of 100 images the largest output misnames."""
    wrong = outputs(weights, data.images_N, activation).argmax(1) != data.labels_N
    return 100 * float(wrong.double().mean())
