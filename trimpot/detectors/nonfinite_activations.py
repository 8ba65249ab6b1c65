"""NaN or infinity inside the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, is_finite, make_window, newest


@dataclass(frozen=True)
class NonfiniteActivations:
    """The output of a layer holds NaN or infinity.

    What: health/nonfinite_layers, the number of layers whose output is not finite in the step that the live probe
        looks at.
    Threshold: above 0.
    Source: ours: no such number is ever right.
    Mend: find the first layer without health/activation_rms; lower learning_rate or lengthen warmup, use bfloat16 or
        float32 in place of float16, resume from a checkpoint before it.
    Edge cases: a mask that adds infinity within attention does not show in a layer's output. loss_spike sees the same
        fault once it has reached the loss, at every step.
    Fails when: see card optimizer.learning_rate. Blind between looks of the probe.
    """

    threshold: float = 0.0

    name: ClassVar[str] = "nonfinite_activations"
    metrics: ClassVar[tuple[str, ...]] = ("health/nonfinite_layers",)
    source: ClassVar[str] = "ours: no such number is right"
    mend: ClassVar[str] = (
        "Find the first layer without health/activation_rms; lower learning_rate or lengthen warmup, avoid float16, "
        "and resume from a checkpoint before it."
    )
    card: ClassVar[str] = "optimizer.learning_rate"

    @property
    def trips_on(self) -> Window:
        return make_window(health__nonfinite_layers=[0.0, None, 0.0, 2.0])

    @property
    def silent_on(self) -> Window:
        return make_window(health__nonfinite_layers=[0.0, None, 0.0, 0.0])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest step."""
        value = newest(window, "health/nonfinite_layers")
        if not is_finite(value) or value <= self.threshold:
            return None
        return find(self, window, "health/nonfinite_layers", value, f"{value:.0f} layers put out NaN or infinity")
