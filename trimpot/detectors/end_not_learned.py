"""The end of a turn is no target, or stays unlikely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, first, latest_mean, make_window


@dataclass(frozen=True)
class EndNotLearned:
    """The model does not learn to end its turn: it will talk on until the token limit.

    What: end_tokens_per_sequence (end-of-turn targets per row) of the newest step; then the mean of
        end_token_logprob (nats) over the last ``steps`` steps, beside minus the loss: the mean of all targets.
    Threshold: no end-of-turn target in any of the last ``steps`` steps; or, from ``after`` reported steps on, a mean
        log-prob below -2.3 nats (the end has a tenth of the probability) that is ``lag`` below that of all targets.
    Source: trl#1623, trl PR#3091 (pad = end of sequence masks every end); the cuts are ours.
    Mend: keep the end-of-turn token in the mask (sft.mask) and the padding token apart from it; if it is a target
        and unlikely, raise sft.steps or sft.learning_rate.
    Edge cases: TRL logs none of these metrics, and its runs are not judged.
    Fails when: see card sft.mask. Blind to a wrong token at the end: the log-prob is that of the token in the rows.
        Rows that are all cut at max_length have no end either, and it fires rightly.
    """

    threshold: float = -2.3
    lag: float = 1.0
    steps: int = 5
    after: int = 20

    name: ClassVar[str] = "end_not_learned"
    metrics: ClassVar[tuple[str, ...]] = ("end_token_logprob", "end_tokens_per_sequence", "loss")
    source: ClassVar[str] = (
        "github.com/huggingface/trl/issues/1623, github.com/huggingface/trl/pull/3091; the cuts are ours"
    )
    mend: ClassVar[str] = (
        "Keep the end-of-turn token in sft.mask and the padding token apart from it; if it is a target and unlikely, "
        "raise sft.steps or sft.learning_rate."
    )
    card: ClassVar[str] = "sft.mask"

    @property
    def trips_on(self) -> Window:
        return make_window(
            end_tokens_per_sequence=[1.0] * 24,
            end_token_logprob=[-6.0, -5.5, -5.0, -4.6, *[-4.0 + 0.02 * step for step in range(20)]],
        )

    @property
    def silent_on(self) -> Window:
        return make_window(
            end_tokens_per_sequence=[1.0] * 10 + [0.0] + [1.0] * 13,
            end_token_logprob=[-6.0, -4.0, -2.5, -1.5, -1.0, -0.8, *[-0.5 + 0.02 * step for step in range(18)]],
        )

    def scan(self, window: Window) -> Finding | None:
        """Looks at the newest steps' targets, at their log-prob, and at an evaluation."""
        ends = latest_mean(window, "end_tokens_per_sequence", self.steps)
        if ends == 0:
            text = f"no end-of-turn token is a target in the last {self.steps} steps"
            return find(self, window, "end_tokens_per_sequence", ends, text, threshold=0.0)
        logp = latest_mean(window, "end_token_logprob", self.steps)
        enough = len(first(window, "end_token_logprob", self.after)) == self.after
        loss = latest_mean(window, "loss", self.steps)
        behind = loss is None or (logp is not None and logp < -loss - self.lag)
        if logp is not None and enough and logp < self.threshold and behind:
            text = f"the end of a turn has log-prob {logp:.2f} nats after {self.after} steps or more"
            return find(self, window, "end_token_logprob", logp, text)
        return None
