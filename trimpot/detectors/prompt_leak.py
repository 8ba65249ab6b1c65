"""Tokens that a user, system or tool wrote are in the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, is_finite, make_window, newest


@dataclass(frozen=True)
class PromptLeak:
    """Prompts leak into the loss: the model is trained to write what users, systems and tools write.

    What: prompt_tokens_share of the newest step: the share of targets that lie outside answers.
    Threshold: above 0 (exact): one boundary token per row is a fault as well.
    Source: trl#4147 (wrong mask boundary); the metric is ours.
    Mend: set sft.mask to assistant; if it is, mend the spans that the chat template marks as answers.
    Edge cases: TRL logs no such metric. Where other roles' text is trained on by choice (sft.mask: completion or all)
        the metric is not logged either, and nothing fires.
    Fails when: see card sft.mask. Blind to the opposite, an answer's first token left out.
    """

    threshold: float = 0.0

    name: ClassVar[str] = "prompt_leak"
    metrics: ClassVar[tuple[str, ...]] = ("prompt_tokens_share",)
    source: ClassVar[str] = "github.com/huggingface/trl/issues/4147; the metric is ours"
    mend: ClassVar[str] = "Set sft.mask to assistant; if it is, mend the spans the chat template marks as answers."
    card: ClassVar[str] = "sft.mask"

    @property
    def trips_on(self) -> Window:
        return make_window(prompt_tokens_share=[0.0, 0.02])

    @property
    def silent_on(self) -> Window:
        return make_window(prompt_tokens_share=[0.0, 0.0, None, 0.0])

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest step."""
        share = newest(window, "prompt_tokens_share")
        if not is_finite(share) or share <= self.threshold:
            return None
        text = f"{share:.2%} of the targets lie outside answers"
        return find(self, window, "prompt_tokens_share", share, text)
