"""Published scaling laws, each set of constants whole, and the split of compute that a law calls for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, final

import numpy as np

from trimpot.core.errors import UsageError, nearest
from trimpot.statistics.arrays import Floats
from trimpot.statistics.scaling_forms import FORMS, SYMBOLS, Form, stacked
from trimpot.statistics.scaling_points import FLOPS, Point, Ranges, completed, refuse_beyond

PF_DAY = 1e15 * 86_400
"""Floating-point operations of a petaflop/s for a day: 8.64e19."""
CRITICAL_TOKENS, CRITICAL_EXPONENT = 2e8, 0.21


@final
@dataclass(frozen=True)
class _Set:
    form: str
    constants: Mapping[str, float]
    source: str
    place: str
    ranges: Ranges = field(default_factory=dict)
    note: str = ""


_KAPLAN = {"parameters": (768.0, 1.5e9), "tokens": (2.2e7, 2.3e10)}
_HOFFMANN = {"parameters": (7e7, 1.6e10), "tokens": (5e9, 5e11)}
_SETS: Mapping[str, _Set] = {
    "kaplan-parameters": _Set(
        "kaplan-parameters", {"N_c": 8.8e13, "alpha_N": 0.076}, "openai-scaling", "equation 1.1",
        {"parameters": _KAPLAN["parameters"]}, "parameters without embeddings, trained to convergence on enough data",
    ),
    "kaplan-tokens": _Set(
        "kaplan-tokens", {"D_c": 5.4e13, "alpha_D": 0.095}, "openai-scaling", "equation 1.2",
        {"tokens": _KAPLAN["tokens"]}, "large models, stopped early",
    ),
    "kaplan-compute": _Set(
        "kaplan-compute", {"C_c": 3.1e8 * PF_DAY, "alpha_C": 0.050}, "openai-scaling", "equation 1.3",
        {}, "C_c is 3.1e8 PF-days; compute at batches far below the critical one",
    ),
    "kaplan": _Set(
        "kaplan", {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}, "openai-scaling",
        "equation 1.5 with table 2", _KAPLAN, "its constants are not those of the laws of N and of D alone",
    ),
    "chinchilla": _Set(
        "chinchilla", {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}, "chinchilla",
        "equation 10, as printed", _HOFFMANN, "rounded in print; see chinchilla-unrounded and chinchilla-refit",
    ),
    "chinchilla-unrounded": _Set(
        "chinchilla",
        {"E": float(np.exp(0.5267228)), "A": float(np.exp(6.0073404)), "B": float(np.exp(6.0179186)),
         "alpha": 0.33917084, "beta": 0.2849083},
        "chinchilla", "the paper's TeX source, as Epoch's notebook has it", _HOFFMANN, "what was printed, unrounded",
    ),
    "chinchilla-refit": _Set(
        "chinchilla", {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}, "epoch-chinchilla",
        "Besiroglu et al. 2024, equation 4", _HOFFMANN, "Epoch AI's fit to 240 points read off figure 4 of Chinchilla",
    ),
}  # fmt: skip


@final
@dataclass(frozen=True)
class Published:
    """A published law by its name, whole: a constant of one set cannot meet one of another.

    The name is all there is to give, so there is no way to build one from single constants. The laws of N alone and of
    D alone take no second variable: of both together speak ``kaplan`` and ``chinchilla``, with constants of their own.

    Raises:
        UsageError: no such set; names the nearest.
    Example: Published("chinchilla").loss({"parameters": 70e9, "tokens": 1.4e12}) = 1.69 + 406.4/70e9^.34 +
        410.7/1.4e12^.28 = 1.69 + 0.0836 + 0.1632 = 1.937.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in _SETS:
            raise UsageError(f"constants {self.name!r}", "are no published set", nearest(self.name, _SETS))

    @property
    def form(self) -> Form:
        return FORMS[_SETS[self.name].form]

    @property
    def constants(self) -> Mapping[str, float]:
        """All of them; cannot be written to."""
        return MappingProxyType(dict(_SETS[self.name].constants))

    @property
    def ranges(self) -> Ranges:
        """What its runs covered, as far as it is known."""
        return MappingProxyType(dict(_SETS[self.name].ranges))

    def loss(self, point: Point, beyond: bool = False) -> float:
        """The loss in nats per token. ``beyond``: also where a variable is more than 10 times outside the law's runs.

        Raises:
            UsageError: a variable that the law does not read, one that is missing, or a point too far out.
        """
        refuse_others(self.name, self.form, point)
        refuse_beyond(point, self.ranges, beyond, f"the runs of {self.name}")
        x_V1 = stacked({name: [point[name]] for name in self.form.variables}, self.form.variables)
        theta_P = self.form.theta(self.constants, np.zeros(len(x_V1)))
        return float(np.exp(self.form.log_loss(theta_P, x_V1)[0]))

    def split(self, compute: float, beyond: bool = False) -> dict[str, float]:
        """Parameters and tokens of the least loss at so much compute (see ``best_split``), and that loss.

        Raises:
            UsageError: the law reads only one variable, or the best size is too far from its runs.
        """
        completed({"compute": compute})
        found = {name: float(value) for name, value in best_split(self.form, self.constants, compute).items()}
        loss = self.loss({name: found[name] for name in self.form.variables}, beyond)
        return {**found, "tokens_per_parameter": found["tokens"] / found["parameters"], "loss": loss}

    def as_dict(self) -> dict[str, Any]:
        own = _SETS[self.name]
        return {
            "name": self.name, "form": own.form, "equation": self.form.equation, "constants": dict(own.constants),
            "source": own.source, "place": own.place, "runs": {name: list(ends) for name, ends in own.ranges.items()},
            "note": own.note,
        }  # fmt: skip


PUBLISHED: tuple[str, ...] = tuple(_SETS)
"""The names of the published sets."""


def critical_batch(loss: float) -> float:
    """Kaplan's critical batch in tokens at a loss in nats per token: B_crit = 2e8 / L^(1/0.21).

    It belongs to no set of constants of the loss, and takes the loss itself.

    Raises:
        UsageError: the loss is not a positive finite number.
    Example: L = 2: 2^(1/0.21) = 2^4.762 = 27.1, so 2e8/27.1 = 7.37e6 tokens.
    Source: Kaplan et al. 2020, equation 1.4.
    """
    if not (np.isfinite(loss) and loss > 0):
        raise UsageError("loss", f"is {loss:g}", "Give a loss above 0, in nats per token.")
    return float(CRITICAL_TOKENS / loss ** (1 / CRITICAL_EXPONENT))


def refuse_others(who: str, form: Form, point: Point) -> None:
    """Raises UsageError unless the point has exactly the variables that the form reads."""
    missing = [name for name in form.variables if name not in point]
    if missing:
        raise UsageError(who, f"needs {missing[0]} ({SYMBOLS[missing[0]]})", f"Give {', '.join(form.variables)}.")
    others = [name for name in point if name not in form.variables]
    if others:
        mend = f"Leave {others[0]} out, or take a law of both with its own constants: kaplan or chinchilla."
        raise UsageError(who, f"is a law of {' and '.join(form.variables)} and does not read {others[0]}", mend)


def best_split(form: Form, constants: Mapping[str, Any], compute: float) -> dict[str, Floats]:
    """Parameters and tokens of the least loss at C = 6 N D, and the powers of C with which they grow.

    Chinchilla: N = G (C/6)^(β/(α+β)), D = (C/6)^(α/(α+β)) / G, G = (αA / βB)^(1/(α+β)).
    Kaplan: N^(r+1) = r N_c^r C / (6 D_c), r = α_N/α_D, from the same condition ∂L/∂N = 0 on C = 6 N D.

    ``constants``: name -> number, or array over resamples.
    Raises:
        UsageError: the form does not read both parameters and tokens.
    Example: α = β = ½, A = B: G = 1, N = D = (C/6)^½; at C = 600 both are 10.
    Source: Hoffmann et al. 2022, equation 4; ours for Kaplan's form.
    """
    if form.variables != ("parameters", "tokens"):
        mend = "Take kaplan or chinchilla, which read both."
        raise UsageError(f"form {form.name}", f"reads {form.variables[0]} alone, so it has no best split", mend)
    value = {name: np.asarray(one, dtype=np.float64) for name, one in constants.items()}
    pairs = np.log(compute / FLOPS)
    if form.floor:
        alpha, beta = value["alpha"], value["beta"]
        shift = (np.log(alpha) + np.log(value["A"]) - np.log(beta) - np.log(value["B"])) / (alpha + beta)
        power = beta / (alpha + beta)
        log_parameters = shift + power * pairs
    else:
        r = value["alpha_N"] / value["alpha_D"]
        power = 1 / (r + 1)
        log_parameters = power * (np.log(r) + r * np.log(value["N_c"]) + pairs - np.log(value["D_c"]))
    return {
        "parameters": np.exp(log_parameters),
        "tokens": np.exp(pairs - log_parameters),
        "parameters_exponent": power,
        "tokens_exponent": 1 - power,
    }
