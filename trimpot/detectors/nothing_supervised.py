"""A step without a single target token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, is_finite, make_window, newest, reported

# In these runs a loss of exactly 0 has another cause: advantages that cancel, or a saturated margin.
ZERO_IS_ORDINARY = ("reward", "rewards/margins", "margin")


@dataclass(frozen=True)
class NothingSupervised:
    """No token of the step is a target, so nothing is learned although the run looks successful.

    What: num_target_tokens = 0; where a log does not count targets, a loss of exactly 0.0.
    Threshold: 0 (exact).
    Source: trl#6668 (all labels masked: 0.0 is reported over a NaN forward pass).
    Mend: raise max_length so that answers survive truncation, or choose another sft.mask or chat template.
    Edge cases: a loss of 0.0 says nothing in runs that report ``reward``, ``rewards/margins`` or ``margin``
        (advantages cancel, margins saturate), nor where targets are counted and there are some.
    Fails when: see card sft.mask. Blind to a mask that keeps the wrong tokens, and to a batch that is masked in part.
    """

    threshold: float = 0.0

    name: ClassVar[str] = "nothing_supervised"
    metrics: ClassVar[tuple[str, ...]] = ("num_target_tokens", "loss", *ZERO_IS_ORDINARY)
    source: ClassVar[str] = "github.com/huggingface/trl/issues/6668"
    mend: ClassVar[str] = (
        "Decode one batch with its mask: raise max_length so that answers survive, or choose another sft.mask or chat "
        "template."
    )
    card: ClassVar[str] = "sft.mask"

    @property
    def trips_on(self) -> Window:
        return make_window(num_target_tokens=[120.0, 96.0, 0.0], loss=[2.1, 2.0, 0.0])

    @property
    def silent_on(self) -> Window:
        return make_window(num_target_tokens=[120.0, 96.0, 4.0], loss=[2.1, 1e-6, 0.0])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest step's number of targets, else at its loss."""
        targets, loss = newest(window, "num_target_tokens"), newest(window, "loss")
        if is_finite(targets):
            if targets > self.threshold:
                return None
            return find(self, window, "num_target_tokens", targets, "no token of this step is supervised")
        if loss != 0.0 or any(reported(window, metric) for metric in ZERO_IS_ORDINARY):
            return None
        return find(
            self, window, "loss", loss, "loss is exactly 0.0: every label is masked, or nothing is left to learn"
        )
