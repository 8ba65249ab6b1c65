"""Scaling laws fitted to runs: Huber on the log-loss, L-BFGS over starts, bootstrap intervals, predictions, splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import minimize

from trimpot.core.errors import UsageError, nearest
from trimpot.core.progress import Progress, ignore
from trimpot.core.seeds import seed_for
from trimpot.core.stats import Estimate
from trimpot.statistics.arrays import Floats, check_probability
from trimpot.statistics.scaling_constants import best_split
from trimpot.statistics.scaling_forms import FORMS, Form, stacked
from trimpot.statistics.scaling_points import Point, Runs, check_runs, completed, refuse_beyond, usable

DELTA = 1e-3
"""Where Huber's loss turns from square to absolute, in log-loss (Hoffmann et al. 2022, D.2)."""
STARTS, STARTS_OF_A_DRAW = 16, 1
"""How many of the best starts of the grid L-BFGS goes on from; a resample also starts from the fit of all runs."""
OPTIONS = {"maxiter": 2000, "maxfun": 5000, "ftol": 1e-13, "gtol": 1e-7, "maxcor": 20}
FEWEST_CLUSTERS, ENOUGH_CLUSTERS = 3, 10
"""Clusters below which nothing is resampled, and below which intervals are said to be too narrow. Ours."""
SIZE, RUN = "size", "run"
"""What is held out: all runs of the largest model, or the one run of the most compute."""


@dataclass(frozen=True)
class Fit:
    """A law fitted to runs.

    Shapes: theta [P] and draws [B, P], the centred numbers of the form and those of B resamples; centres [V].
    ``objective``: the sum of Huber losses at the minimum. ``redrawn``: resamples drawn again as they could not be
    fitted by themselves.
    """

    form: Form
    runs: Runs
    theta: Floats
    draws: Floats
    centres: Floats
    objective: float
    delta: float
    level: float
    seed: int
    redrawn: int

    @property
    def clusters(self) -> int:
        return len(np.unique(self.runs.clusters))

    @cached_property
    def constants(self) -> dict[str, Estimate]:
        """Each constant with its percentile interval over resamples; ``n`` counts the clusters."""
        found, drawn = self.form.read(self.theta, self.centres), self.form.read(self.draws, self.centres)
        return {name: self._estimate(float(found[name]), drawn[name]) for name in self.form.constants}

    @cached_property
    def residuals(self) -> Floats:
        """ln L less the law's ln L, of every run [R]."""
        return np.log(self.runs.loss) - self.form.log_loss(self.theta, self._centred(self.runs.known()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was computed of what, and constants at their bounds."""
        found = list(self.runs.notes)
        bounds = self.form.bounds(float(np.log(self.runs.loss).mean()))
        at_bound = [
            value <= low + 1e-6 or value >= high - 1e-6 for value, (low, high) in zip(self.theta, bounds, strict=True)
        ]
        if any(at_bound):
            found.append("a part of the law is at its bound: these runs do not show it, and its constants say nothing")
        if len(self.draws) and self.clusters < ENOUGH_CLUSTERS:
            found.append(f"intervals from {self.clusters} clusters are rather too narrow")
        if self.redrawn:
            found.append(f"{self.redrawn} resamples could not be fitted by themselves and were drawn anew")
        return tuple(found)

    def constant_intervals_hold(self, constants: Mapping[str, float]) -> dict[str, bool]:
        """For each constant of a law of this form, whether it lies within the interval.

        Raises:
            UsageError: the constants are not those of the form.
        """
        if set(constants) != set(self.form.constants):
            problem = f"have {', '.join(constants)}, and the form {self.form.name} {', '.join(self.form.constants)}"
            raise UsageError("constants", problem, "Compare laws of one form.")
        return {name: not self.constants[name].excludes(value) for name, value in constants.items()}

    def predict(self, point: Point, beyond: bool = False) -> Estimate:
        """The loss of one further run at a point, with the interval in which it is expected.

        Of each resample the law's ln L plus a residual of the fit, drawn at random and multiplied by √(R/(R − P)), as
        a fit of P numbers to R runs makes their residuals too small; the interval is of percentiles. It covers the
        spread of the constants and of runs about the law, not a law of the wrong form.

        Raises:
            UsageError: a variable of the form is missing, or more than 10 times outside the runs without ``beyond``.
        """
        whole = completed(point)
        missing = [name for name in self.form.variables if name not in whole]
        if missing:
            mend = f"Give {', '.join(self.form.variables)}."
            raise UsageError(f"form {self.form.name}", f"needs {missing[0]} to predict", mend)
        refuse_beyond(whole, self.runs.ranges(), beyond)
        x_V1 = self._centred({name: np.array([whole[name]]) for name in self.form.variables})
        value = float(np.exp(self.form.log_loss(self.theta, x_V1)[0]))
        if not len(self.draws):
            return Estimate(value, None, None, self.clusters, "no bootstrap", self.level)
        generator = np.random.default_rng(seed_for(self.seed, "residuals"))
        widened = self.residuals * np.sqrt(len(self.runs) / (len(self.runs) - len(self.theta)))
        logs_B = self.form.log_loss(self.draws, x_V1)[:, 0] + generator.choice(widened, len(self.draws))
        return self._estimate(value, np.exp(logs_B), "bootstrap and residuals")

    def law(self, values: Mapping[str, Floats]) -> Floats:
        """The loss of the fitted law at many points, variable -> [R]; no interval, and no check of how far out."""
        return np.asarray(np.exp(self.form.log_loss(self.theta, self._centred(values))))

    def split(self, compute: float, beyond: bool = False) -> dict[str, Estimate]:
        """Parameters and tokens of the least loss at so much compute, with intervals over resamples.

        Keys: parameters, tokens, tokens_per_parameter, parameters_exponent, tokens_exponent (N and D grow as these
        powers of C), loss (of the law there, without the spread of single runs).

        Raises:
            UsageError: the form reads only one variable; the compute or the best size is more than 10 times outside
                the runs without ``beyond``.
        Source: see ``best_split``.
        """
        refuse_beyond(completed({"compute": compute}), self.runs.ranges(), beyond)
        found = self._split(self.theta, compute)
        refuse_beyond({name: float(found[name]) for name in self.form.variables}, self.runs.ranges(), beyond)
        drawn = self._split(self.draws, compute)
        return {name: self._estimate(float(found[name]), drawn[name]) for name in found}

    def as_dict(self) -> dict[str, Any]:
        from dataclasses import asdict

        return {
            "form": self.form.name, "equation": self.form.equation, "runs": len(self.runs), "clusters": self.clusters,
            "resamples": len(self.draws), "level": self.level, "delta": self.delta, "objective": self.objective,
            "constants": {name: asdict(one) for name, one in self.constants.items()},
            "typical_error": float(np.expm1(np.median(np.abs(self.residuals)))),
            "ranges": {name: list(ends) for name, ends in self.runs.ranges().items()}, "notes": list(self.notes),
        }  # fmt: skip

    def _split(self, theta: Floats, compute: float) -> dict[str, Floats]:
        found = best_split(self.form, self.form.read(theta, self.centres), compute)
        x = np.log(np.stack([found["parameters"], found["tokens"]])) - self.centres.reshape(2, *[1] * (theta.ndim - 1))
        logs = self.form.log_loss(theta, x[..., None])[..., 0]
        return {**found, "tokens_per_parameter": found["tokens"] / found["parameters"], "loss": np.exp(logs)}

    def _centred(self, values: Mapping[str, Floats]) -> Floats:
        return stacked(values, self.form.variables) - self.centres[:, None]

    def _estimate(self, value: float, drawn_B: Floats, method: str = "bootstrap") -> Estimate:
        if not drawn_B.size:
            return Estimate(value, None, None, self.clusters, "no bootstrap", self.level)
        low, high = np.quantile(drawn_B, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Estimate(value, float(low), float(high), self.clusters, method, self.level)


@dataclass(frozen=True)
class HeldOut:
    """A law fitted to all but the largest runs, and what it says of them.

    ``predicted``: for each held-out run its expected loss with an interval; ``largest``: the place of the one with
    the most compute (of the most parameters or tokens, where no compute is known).
    """

    fit: Fit
    held_out: Runs
    predicted: tuple[Estimate, ...]
    largest: int

    @property
    def errors(self) -> tuple[float, ...]:
        """Predicted over measured loss, less 1, of each held-out run: 0.01 is 1% too high."""
        return tuple(
            float((one.value or 0.0) / loss - 1) for one, loss in zip(self.predicted, self.held_out.loss, strict=True)
        )

    @property
    def inside(self) -> tuple[bool, ...]:
        """Whether the measured loss lies in the interval, of each held-out run."""
        return tuple(
            not one.excludes(float(loss)) for one, loss in zip(self.predicted, self.held_out.loss, strict=True)
        )

    def as_dict(self) -> dict[str, Any]:
        from dataclasses import asdict

        rows = [
            {"row": self.held_out.rows[place], **self.held_out.point(place), "loss": float(self.held_out.loss[place]),
             "predicted": asdict(self.predicted[place]), "error": self.errors[place], "inside": self.inside[place],
             "largest": place == self.largest}
            for place in range(len(self.held_out))
        ]  # fmt: skip
        return {"fit": self.fit.as_dict(), "held_out": rows}


def fit(
    runs: Runs,
    form: str = "chinchilla",
    draws: int = 1000,
    seed: int = 0,
    delta: float = DELTA,
    level: float = 0.95,
    progress: Progress = ignore,
) -> Fit:
    """Fits a law: the least Σ Huber_δ(ln L̂ − ln L) over runs, by L-BFGS from the best starts of a grid.

    Huber_δ(r) = r²/2 within δ of 0, δ(|r| − δ/2) outside. The grid (hundreds of θ) is judged in one product of
    matrices, and L-BFGS with exact gradients goes on from the best 16. The sum is divided by δ², so that its
    tolerances, which compare with 1, mean something: averaged over runs and not scaled, the objective is about 1e-5
    and L-BFGS stops at once, which is what Besiroglu et al. say happened in Hoffmann et al.

    Intervals are percentiles over ``draws`` resamples of the clusters of the runs with replacement. A resample that
    could not be fitted by itself is drawn anew.

    Args:
        form: of FORMS.
        draws: 0 for no intervals.
        level: of all intervals.
    Raises:
        UsageError: unknown form, or runs that cannot tell its constants (see ``check_runs``).
        ValueError: draws below 0, or delta not above 0.
    Edge cases: a part of the law that runs do not show goes to its bound, and ``notes`` says so.
    Source: Hoffmann et al. 2022, D.2 (the grid there has 4,500 starts in coordinates that are not centred); Besiroglu
        et al. 2024 (arXiv 2404.10102); Efron 1979 for the bootstrap.
    """
    check_probability(level, "level")
    if draws < 0 or not delta > 0:
        raise ValueError(f"draws is {draws} and delta {delta}; at least 0 and above 0 are needed")
    if form not in FORMS:
        raise UsageError(f"form {form!r}", "is unknown", nearest(form, FORMS))
    chosen = FORMS[form]
    check_runs(runs, chosen)
    logs_VR, target_R = stacked(runs.known(), chosen.variables), np.log(runs.loss)
    centres_V = logs_VR.mean(axis=1)
    problem = HuberProblem(chosen, logs_VR - centres_V[:, None], target_R, delta)
    ones_R = np.ones(len(runs))
    theta, objective = problem.minimum(ones_R, problem.best_starts(ones_R, STARTS))
    drawn, redrawn = _resampled(problem, runs, theta, draws, seed, progress)
    return Fit(chosen, runs, theta, drawn, centres_V, objective * delta**2, delta, level, seed, redrawn)


def hold_out(
    runs: Runs, form: str = "chinchilla", what: str = SIZE, beyond: bool = False, **settings: Any
) -> HeldOut:  # fmt: skip
    """Fits all but the largest runs and predicts those.

    ``what``: ``size``, all runs of the largest value of the form's first variable; ``run``, the one run of the most
    compute. ``settings`` are those of ``fit``. ``beyond``: held-out runs may lie more than 10 times beyond the others.

    Raises:
        UsageError: as ``fit``; nothing is left to fit, or what is held out is too far away.
    """
    if what not in (SIZE, RUN):
        raise UsageError(f"hold out {what!r}", "is unknown", nearest(what, (SIZE, RUN)))
    if form not in FORMS:
        raise UsageError(f"form {form!r}", "is unknown", nearest(form, FORMS))
    check_runs(runs, FORMS[form])
    first = getattr(runs, FORMS[form].variables[0])
    size = first if runs.compute is None else runs.compute
    out = first == first.max() if what == SIZE else np.arange(len(runs)) == int(np.argmax(size))
    fitted = fit(runs.take(~out), form, **settings)
    held = runs.take(out)
    predicted = tuple(fitted.predict(held.point(row), beyond) for row in range(len(held)))
    return HeldOut(fitted, held, predicted, int(np.argmax(size[out])))


@dataclass(frozen=True)
class HuberProblem:
    """Runs as the optimiser sees them: ln variables x_VR (``fit`` centres them), ln L [R], and Huber's δ.

    Objectives are divided by δ².
    """

    form: Form
    x_VR: Floats
    target_R: Floats
    delta: float

    @cached_property
    def starts(self) -> tuple[Floats, Floats]:
        """The grid [G, P], and Huber's loss of each start for each run [G, R]."""
        starts_GP = self.form.starts(float(self.target_R.mean()))
        misses = self.form.log_loss(starts_GP, self.x_VR) - self.target_R
        clipped = np.clip(misses, -self.delta, self.delta)
        return starts_GP, clipped * (misses - clipped / 2) / self.delta**2

    def best_starts(self, weights_R: Floats, count: int) -> Floats:
        """The starts with the least objective for the weights, best first."""
        starts_GP, losses_GR = self.starts
        return starts_GP[np.argsort(losses_GR @ weights_R, kind="stable")[:count]]

    def minimum(self, weights_R: Floats, starts_SP: Floats) -> tuple[Floats, float]:
        """The θ of the least weighted sum of Huber losses that L-BFGS finds from the starts, and that sum."""
        bounds = self.form.bounds(float(self.target_R.mean()))
        results = [
            minimize(self.objective, start, (weights_R,), jac=True, method="L-BFGS-B", bounds=bounds, options=OPTIONS)
            for start in starts_SP
        ]
        best = min(results, key=lambda one: float(one.fun))
        return np.asarray(best.x, dtype=np.float64), float(best.fun)

    def objective(self, theta_P: Floats, weights_R: Floats) -> tuple[float, Floats]:
        """Σ w Huber(ln L̂ − ln L)/δ² and its gradient by θ."""
        value_R, by_PR = self.form.gradient(theta_P, self.x_VR)
        misses_R = value_R - self.target_R
        clipped_R = np.clip(misses_R, -self.delta, self.delta) * weights_R / self.delta**2
        inner_R = np.clip(misses_R, -self.delta, self.delta)
        return float((clipped_R * (misses_R - inner_R / 2)).sum()), by_PR @ clipped_R


def _resampled(
    problem: HuberProblem, runs: Runs, theta_P: Floats, draws: int, seed: int, progress: Progress
) -> tuple[Floats, int]:  # fmt: skip
    """θ of every resample [B, P], and how many resamples were drawn anew.

    Raises:
        UsageError: there are too few clusters.
    """
    clusters, found, redrawn = int(runs.clusters.max()) + 1, [], 0
    present = np.unique(runs.clusters)
    if draws and len(present) < FEWEST_CLUSTERS:
        mend = "Resample single rows, or take no intervals (--bootstrap 0)."
        raise UsageError("bootstrap", f"{len(present)} clusters of runs are too few to resample", mend)
    for number in range(draws):
        generator = np.random.default_rng(seed_for(seed, "resample", number))
        # It ends: a resample with every cluster is the runs themselves, which can be fitted.
        while True:
            chosen = generator.choice(present, len(present))
            weights_R = np.bincount(chosen, minlength=clusters)[runs.clusters].astype(np.float64)
            if usable(runs, problem.form, weights_R):
                break
            redrawn += 1
        starts = np.vstack([theta_P, problem.best_starts(weights_R, STARTS_OF_A_DRAW)])
        found.append(problem.minimum(weights_R, starts)[0])
        progress(number + 1, draws)
    return np.array(found).reshape(draws, len(theta_P)), redrawn
