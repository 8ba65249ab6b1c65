"""The forms of scaling laws: the loss that parameters, tokens and compute give, with exact gradients.

Shape suffixes: P numbers of a form, V variables, R runs, B draws, G starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol, final

import numpy as np

from trimpot.statistics.arrays import Floats

SYMBOLS: Mapping[str, str] = {"parameters": "N", "tokens": "D", "compute": "C"}
"""Variable -> the symbol that papers write for it. Units: parameters, tokens, floating-point operations."""
SHARES = (0.05, 0.3, 0.8)
"""Shares of the mean loss that a part of the law begins with."""
EXPONENTS = (0.05, 0.2, 0.5, 1.0)
"""Exponents that it begins with."""
SMALLEST_EXPONENT, LARGEST_EXPONENT = 1e-4, 10.0
FARTHEST = 30.0
"""How far from the mean log-loss a part may be: e^-30 of the loss is nothing."""
HIGHEST = 700.0
"""The largest power of e that float64 holds, nearly."""


class Form(Protocol):
    """A family of laws. Its numbers are fitted as θ, in coordinates centred at the mean of each ln variable.

    Centred, the amplitude of a term and its exponent are hardly correlated, so L-BFGS needs tens of steps and every
    start ends in one place; in the paper's own coordinates (a − α ln N with ln N ≈ 20) it stops early in a valley.
    """

    @property
    def name(self) -> str: ...

    @property
    def equation(self) -> str: ...

    @property
    def variables(self) -> tuple[str, ...]:
        """What it reads, of SYMBOLS."""

    @property
    def constants(self) -> tuple[str, ...]:
        """The names of its constants, as papers write them."""

    @property
    def floor(self) -> bool:
        """Whether it has a loss that neither parameters nor tokens remove."""

    def theta(self, constants: Mapping[str, float], centres_V: Floats) -> Floats:
        """Constants -> θ [P]."""

    def read(self, theta: Floats, centres_V: Floats) -> dict[str, Floats]:
        """θ [..., P] -> every constant [...]."""

    def log_loss(self, theta: Floats, x_VR: Floats) -> Floats:
        """ln L [..., R] at centred ln variables, for θ [..., P]."""

    def gradient(self, theta_P: Floats, x_VR: Floats) -> tuple[Floats, Floats]:
        """ln L [R], and its derivative by each number of θ [P, R]."""

    def starts(self, level: float) -> Floats:
        """θ from which fits begin [G, P]; ``level`` is the mean of ln L."""

    def bounds(self, level: float) -> list[tuple[float, float]]:
        """The least and the largest value of each number of θ."""


@final
@dataclass(frozen=True)
class PowerSum:
    """A sum of power laws, one for each variable, with or without a floor.

    ln L = LSE(c_1 − p_1 x_1, …, c_T − p_T x_T, e), x_t = ln V_t − centre_t, LSE(z) = ln Σ exp z.

    With a floor the constants are E = exp e and amplitudes A = exp(c + p · centre): L = E + A/N^α + B/D^β. Without,
    they are Kaplan's scales, N_c = exp(c/p + centre): L = (N_c/N)^α.

    Args:
        amplitudes: names of A, B (of N_c without a floor), one for each variable.
        exponents: names of the exponents, one for each variable.
    Example: E = 1, A = 8, α = 1 at N = 4: L = 1 + 8/4 = 3.
    Edge cases: exponents stay within [1e-4, 10]; a part that the runs do not show goes to e^-30 of the loss.
    Source: Kaplan et al. 2020, equations 1.1 to 1.3; Hoffmann et al. 2022, equations 2 and 10.
    """

    name: str
    equation: str
    variables: tuple[str, ...]
    amplitudes: tuple[str, ...]
    exponents: tuple[str, ...]
    floor: bool

    @property
    def constants(self) -> tuple[str, ...]:
        return (*(("E",) if self.floor else ()), *self.amplitudes, *self.exponents)

    def theta(self, constants: Mapping[str, float], centres_V: Floats) -> Floats:
        powers = np.array([constants[name] for name in self.exponents])
        levels = np.log([constants[name] for name in self.amplitudes])
        levels = levels - powers * centres_V if self.floor else powers * (levels - centres_V)
        return np.concatenate([levels, powers, [np.log(constants["E"])] if self.floor else []])

    def read(self, theta: Floats, centres_V: Floats) -> dict[str, Floats]:
        terms = len(self.variables)
        levels, powers = theta[..., :terms], theta[..., terms : 2 * terms]
        logs = levels + powers * centres_V if self.floor else levels / powers + centres_V
        found = {"E": np.exp(theta[..., -1])} if self.floor else {}
        found |= {name: _exp(logs[..., place]) for place, name in enumerate(self.amplitudes)}
        return found | {name: powers[..., place] for place, name in enumerate(self.exponents)}

    def log_loss(self, theta: Floats, x_VR: Floats) -> Floats:
        return _log_sum_exp(self._parts(theta, x_VR))[0]

    def gradient(self, theta_P: Floats, x_VR: Floats) -> tuple[Floats, Floats]:
        value_R, weights_TR = _log_sum_exp(self._parts(theta_P, x_VR))
        terms_VR = weights_TR[: len(x_VR)]
        return value_R, np.concatenate([terms_VR, -terms_VR * x_VR, weights_TR[len(x_VR) :]])

    def starts(self, level: float) -> Floats:
        terms = len(self.variables)
        shares = SHARES if terms + self.floor > 1 else (1.0,)
        grid = [
            [*(level + np.log(chosen[:terms])), *powers, *(level + np.log(chosen[terms:]))]
            for chosen in product(shares, repeat=terms + self.floor)
            for powers in product(EXPONENTS, repeat=terms)
        ]
        return np.array(grid)

    def bounds(self, level: float) -> list[tuple[float, float]]:
        part, power = (level - FARTHEST, level + FARTHEST), (SMALLEST_EXPONENT, LARGEST_EXPONENT)
        return [part] * len(self.variables) + [power] * len(self.variables) + [part] * self.floor

    def _parts(self, theta: Floats, x_VR: Floats) -> Floats:
        """The logarithm of each part [T, ..., R]."""
        terms = len(self.variables)
        parts = [theta[..., t, None] - theta[..., terms + t, None] * x_VR[t] for t in range(terms)]
        if self.floor:
            parts.append(np.broadcast_to(theta[..., -1, None], parts[0].shape))
        return np.stack(parts)


@final
@dataclass(frozen=True)
class KaplanJoint:
    """Kaplan's loss of parameters and tokens: L = ((N_c/N)^(α_N/α_D) + D_c/D)^α_D.

    ln L = s · LSE((a − α_N x)/s, b/s − y), s = α_D, x and y the centred ln N and ln D, a = α_N (ln N_c − centre_N),
    b = s (ln D_c − centre_D): each of a and b is the ln L that its variable gives alone, at the centre.

    Example: N_c = 4, α_N = 1, D_c = 6, α_D = ½ at N = 2, D = 2: ((4/2)² + 6/2)^½ = √7 = 2.646.
    Edge cases: as in ``PowerSum``.
    Source: Kaplan et al. 2020, equation 1.5.
    """

    name: str = "kaplan"
    equation: str = "L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D"
    variables: tuple[str, ...] = ("parameters", "tokens")
    constants: tuple[str, ...] = ("N_c", "D_c", "alpha_N", "alpha_D")
    floor: bool = False

    def theta(self, constants: Mapping[str, float], centres_V: Floats) -> Floats:
        power, s = constants["alpha_N"], constants["alpha_D"]
        a = power * (np.log(constants["N_c"]) - centres_V[0])
        return np.array([a, power, s * (np.log(constants["D_c"]) - centres_V[1]), s])

    def read(self, theta: Floats, centres_V: Floats) -> dict[str, Floats]:
        a, power, b, s = np.moveaxis(theta, -1, 0)
        scales = {"N_c": _exp(a / power + centres_V[0]), "D_c": _exp(b / s + centres_V[1])}
        return {**scales, "alpha_N": power, "alpha_D": s}

    def log_loss(self, theta: Floats, x_VR: Floats) -> Floats:
        return theta[..., 3, None] * _log_sum_exp(self._parts(theta, x_VR))[0]

    def gradient(self, theta_P: Floats, x_VR: Floats) -> tuple[Floats, Floats]:
        parts = self._parts(theta_P, x_VR)
        value_R, (u, v) = _log_sum_exp(parts)
        by_s = value_R - u * parts[0] - v * (parts[1] + x_VR[1])
        return theta_P[3] * value_R, np.stack([u, -u * x_VR[0], v, by_s])

    def starts(self, level: float) -> Floats:
        parts = [level + float(np.log(share)) for share in (*SHARES[1:], 1.0)]
        return np.array(list(product(parts, EXPONENTS, parts, EXPONENTS)))

    def bounds(self, level: float) -> list[tuple[float, float]]:
        part, power = (level - FARTHEST, level + FARTHEST), (SMALLEST_EXPONENT, LARGEST_EXPONENT)
        return [part, power, part, power]

    def _parts(self, theta: Floats, x_VR: Floats) -> Floats:
        s = theta[..., 3, None]
        first = (theta[..., 0, None] - theta[..., 1, None] * x_VR[0]) / s
        return np.stack([first, theta[..., 2, None] / s - x_VR[1]])


FORMS: Mapping[str, Form] = {
    form.name: form
    for form in (
        PowerSum(
            "chinchilla",
            "L = E + A/N^alpha + B/D^beta",
            ("parameters", "tokens"), ("A", "B"), ("alpha", "beta"), True,
        ),
        PowerSum("chinchilla-parameters", "L = E + A/N^alpha", ("parameters",), ("A",), ("alpha",), True),
        PowerSum("chinchilla-tokens", "L = E + B/D^beta", ("tokens",), ("B",), ("beta",), True),
        KaplanJoint(),
        PowerSum("kaplan-parameters", "L = (N_c/N)^alpha_N", ("parameters",), ("N_c",), ("alpha_N",), False),
        PowerSum("kaplan-tokens", "L = (D_c/D)^alpha_D", ("tokens",), ("D_c",), ("alpha_D",), False),
        PowerSum("kaplan-compute", "L = (C_c/C)^alpha_C", ("compute",), ("C_c",), ("alpha_C",), False),
    )
}  # fmt: skip
"""Name -> form. The two of one variable with a floor are for runs in which the other does not change."""


def stacked(values: Mapping[str, Sequence[float] | Floats], variables: Sequence[str]) -> Floats:
    """ln of the variables a form reads, [V, R]."""
    return np.log(np.array([np.asarray(values[name], dtype=np.float64) for name in variables]))


def _log_sum_exp(parts: Floats) -> tuple[Floats, Floats]:
    """ln Σ exp over the first axis, and the share of each part in the sum."""
    highest = parts.max(axis=0)
    shares = np.exp(parts - highest)
    total = shares.sum(axis=0)
    return highest + np.log(total), shares / total


def _exp(logs: Floats) -> Floats:
    """e to the power, at most 1e304 and at least 1e-304: scales of nearly flat laws are beyond float64."""
    return np.exp(np.clip(logs, -HIGHEST, HIGHEST))
