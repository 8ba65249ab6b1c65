"""The chat template in use is not the one the model was made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, is_finite, make_window, newest


@dataclass(frozen=True)
class TemplateMismatch:
    """The run formats its rows with another chat template than the model was made with.

    What: template_matches of the newest step: 1.0 when the hash of the template in use is the one stored with the
        model, else 0.0.
    Threshold: below 1 (exact).
    Source: LLaMA-Factory#2509 (26% right with the wrong template, 57% with the right one).
    Mend: use the model's own chat template in sft.data and wherever the model is sampled.
    Edge cases: a model without a stored template reports nothing. TRL logs no such metric.
    Fails when: see card sft.data. Fires rightly but needlessly where a base model is taught a new template on purpose.
        Blind to a template that was wrong from the model's first training on.
    """

    threshold: float = 1.0

    name: ClassVar[str] = "template_mismatch"
    metrics: ClassVar[tuple[str, ...]] = ("template_matches",)
    source: ClassVar[str] = "github.com/hiyouga/LLaMA-Factory/issues/2509"
    mend: ClassVar[str] = "Use the model's own chat template in sft.data and wherever the model is sampled."
    card: ClassVar[str] = "sft.data"

    @property
    def trips_on(self) -> Window:
        return make_window(template_matches=[0.0, 0.0])

    @property
    def silent_on(self) -> Window:
        return make_window(template_matches=[1.0, 1.0, None, 1.0])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest step."""
        matches = newest(window, "template_matches")
        if not is_finite(matches) or matches >= self.threshold:
            return None
        return find(self, window, "template_matches", matches, "the chat template is not the model's own")
