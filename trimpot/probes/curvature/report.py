"""Curvature of a policy on rows, as the commands print it: sharpness with its control, and the Hessian."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trimpot.core.progress import Progress, ignore
from trimpot.core.samples import Sample
from trimpot.core.stats import Estimate
from trimpot.models.policy import Policy
from trimpot.probes.curvature.ball import ADAPTIVE_RADIUS, RADIUS, BallSettings, BallSharpness, ball_sharpness
from trimpot.probes.curvature.box import EPSILONS, BoxSettings, BoxSharpness, box_sharpness
from trimpot.probes.curvature.box import STANDARD as BOX
from trimpot.probes.curvature.hessian import STANDARD as SPECTRUM
from trimpot.probes.curvature.hessian import Spectrum, SpectrumSettings, hessian_of, hessian_trace, top_eigenvalues
from trimpot.probes.curvature.of_policy import surface_of
from trimpot.probes.curvature.rescale import Rescaled, linear_pairs, rescaling_control
from trimpot.probes.curvature.surface import Floats, Surface


@dataclass(frozen=True)
class SharpnessReport:
    """``boxes``: Keskar's φ for each ε. ``ball``, ``adaptive``: SAM's and ASAM's. ``controls``: φ of the first ε and
    the adaptive rise, each at the weights and at rescaled ones that compute the same; None: no pair of weights that can
    be rescaled is among those measured. ``rows``: how many were measured.
    """

    boxes: tuple[BoxSharpness, ...]
    ball: BallSharpness
    adaptive: BallSharpness
    controls: dict[str, Rescaled | None]
    part: str | None
    rows: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        controls = {name: None if one is None else one.as_dict() for name, one in self.controls.items()}
        return {**asdict(self), "controls": controls}


def sharpness_report(
    policy: Policy,
    samples: Sequence[Sample],
    part: str | None = None,
    settings: BoxSettings = BOX,
    epsilons: Sequence[float] = EPSILONS,
    progress: Progress = ignore,
) -> SharpnessReport:
    """Sharpness of the SFT loss of ``policy`` on tokenised rows, over all that trains or a named ``part`` of it.

    ``settings``: of the box, with every ε of ``epsilons`` in place of its own. Raises: see ``surface_of`` and
    ``box_sharpness``.
    """
    began = time.perf_counter()
    surface = surface_of(policy, samples, part)
    climb = settings.starts * (settings.iterations + 3)
    counted = _Shared(progress, (len(epsilons) + 1) * climb + 30)
    boxes = []
    for epsilon in epsilons:
        boxes.append(box_sharpness(surface, _with(settings, epsilon), progress=counted.part()))
    ball = ball_sharpness(surface, BallSettings(RADIUS, seed=settings.seed), progress=counted.part())
    stretched = BallSettings(ADAPTIVE_RADIUS, True, seed=settings.seed)
    adaptive = ball_sharpness(surface, stretched, progress=counted.part())

    def phi(at: Surface, x: Floats) -> float:
        return box_sharpness(at, _with(settings, epsilons[0]), x, counted.part()).phi

    def rise(at: Surface, x: Floats) -> float:
        return ball_sharpness(at, stretched, x, counted.part()).rise

    pairs = linear_pairs(tuple(surface.weights))
    controls = {
        "phi": rescaling_control(surface, pairs, phi, before=boxes[0].phi),
        "adaptive": rescaling_control(surface, pairs, rise, before=adaptive.rise),
    }
    counted.end()
    seconds = time.perf_counter() - began
    return SharpnessReport(tuple(boxes), ball, adaptive, controls, part, len(samples), seconds)


@dataclass(frozen=True)
class HessianReport:
    """``largest`` and ``smallest``: eigenvalues at both ends. ``trace``: loss per squared weight, with its interval.
    ``limit``: 2/η, above which gradient descent at that rate diverges on a quadratic; None: no rate was given.
    """

    largest: Spectrum
    smallest: Spectrum
    trace: Estimate
    size: int
    part: str | None
    rows: int
    learning_rate: float | None
    seconds: float

    @property
    def limit(self) -> float | None:
        return None if self.learning_rate is None else 2 / self.learning_rate

    def as_dict(self) -> dict[str, Any]:
        spectra = {"largest": self.largest.as_dict(), "smallest": self.smallest.as_dict()}
        return {**asdict(self), **spectra, "limit": self.limit}


def hessian_report(
    policy: Policy,
    samples: Sequence[Sample],
    part: str | None = None,
    settings: SpectrumSettings = SPECTRUM,
    vectors: int = 32,
    learning_rate: float | None = None,
    progress: Progress = ignore,
) -> HessianReport:
    """Eigenvalues at both ends and trace of the Hessian of the SFT loss of ``policy`` on tokenised rows.

    ``settings``: how many eigenvalues at each end, and how exactly; ``vectors``: of the trace. Raises: see
    ``surface_of`` and ``top_eigenvalues``.
    """
    began = time.perf_counter()
    surface = surface_of(policy, samples, part)
    product, counted = hessian_of(surface), _Shared(progress, 80 + vectors)
    ends = [
        top_eigenvalues(
            product, surface.size,
            SpectrumSettings(settings.count, which, settings.tolerance, settings.iterations, settings.seed),
            counted.part(),
        )
        for which in ("largest", "smallest")
    ]  # fmt: skip
    trace = hessian_trace(product, surface.size, vectors, settings.seed, counted.part())
    counted.end()
    seconds = time.perf_counter() - began
    return HessianReport(ends[0], ends[1], trace, surface.size, part, len(samples), learning_rate, seconds)


class _Shared:
    """One progress over several pieces of work, of which the length is a guess."""

    def __init__(self, progress: Progress, expected: int) -> None:
        self._progress, self._expected, self._done = progress, expected, 0

    def part(self) -> Progress:
        begun = self._done

        def told(done: int, total: int) -> None:
            self._done = begun + done
            self._progress(self._done, max(self._expected, self._done + 1))

        return told

    def end(self) -> None:
        self._progress(self._done, self._done)


def _with(settings: BoxSettings, epsilon: float) -> BoxSettings:
    return BoxSettings(epsilon, settings.directions, settings.iterations, settings.starts, settings.seed)
