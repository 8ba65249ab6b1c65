"""The reference is not the model that training began with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trimpot.core.findings import Finding, Window
from trimpot.detectors.windows import find, is_finite, make_window, newest, reported

ANSWERS = ("chosen", "rejected")


@dataclass(frozen=True)
class WrongReference:
    """Policy and reference differ before the first update: the KL and the implicit rewards start from a wrong zero.

    What: values of step 1, before any update: logratio/chosen and logratio/rejected (nats per answer), which must be 0;
        where a log lacks them (TRL's), rewards/chosen and rewards/rejected divided by ``beta``; in a run with a
        ``reward``, kl (nats per token). With a logistic loss this is the same as loss = ln 2.
    Threshold: |log-ratio| above 0.5 nats per answer, or |kl| above ``kl`` nats per token (room for rounding in
        bfloat16).
    Source: trl#1340, trl PR#6443 (at step 0 KL = 0 and the DPO loss is ln 2); the tolerances are ours.
    Mend: start the stage from the model that is its reference (preference.start, policy_gradient.start), and load both
        with one precision and one chat template.
    Edge cases: a fault of the whole run: it is said at step 1 and repeated. A log whose first line is not step 1 (TRL
        at logging_steps > 1) is not judged. Reference-free objectives (rewards in one proportion to logps for chosen
        and rejected: CPO, SimPO) have no reference to be wrong. For TRL's logs the run's beta is taken as ``beta``.
    Fails when: see card dpo.beta. Fires needlessly where the policy begins apart from the reference by design: prompt
        and prefix tuning, dropout, a reference chosen on purpose.
    """

    threshold: float = 0.5
    kl: float = 0.01
    beta: float = 0.1

    name: ClassVar[str] = "wrong_reference"
    metrics: ClassVar[tuple[str, ...]] = (
        *(f"logratio/{answer}" for answer in ANSWERS),
        *(f"rewards/{answer}" for answer in ANSWERS),
        *(f"logps/{answer}" for answer in ANSWERS),
        "kl",
        "reward",
    )
    source: ClassVar[str] = (
        "github.com/huggingface/trl/issues/1340, github.com/huggingface/trl/pull/6443; the tolerances are ours"
    )
    mend: ClassVar[str] = (
        "Start the stage from the model that is its reference (preference.start, policy_gradient.start); load both "
        "with one precision and one chat template."
    )
    card: ClassVar[str] = "dpo.beta"

    @property
    def trips_on(self) -> Window:
        return make_window(logratio__chosen=[3.0, 3.1, 3.4], logratio__rejected=[-2.0, -2.2, -2.5])

    @property
    def silent_on(self) -> Window:
        return make_window(logratio__chosen=[0.001, 0.9, 1.5], logratio__rejected=[-0.001, -2.0, -3.0])

    def scan(self, window: Window) -> Finding | None:
        """Looks at step 1, as long as the newest step reports the same metric."""
        start = self._start(window)
        for answer in ANSWERS:
            metric, nats = self._log_ratio(start, answer)
            if nats is not None and abs(nats) > self.threshold and is_finite(newest(window, metric)):
                text = f"at step 1 the {answer} answers lie {nats:.3g} nats from the reference, where it must be 0"
                return find(self, window, metric, abs(nats), text)
        divergence = start.get("kl")
        if divergence is None or abs(divergence) <= self.kl or not reported(window, "reward"):
            return None
        if not is_finite(newest(window, "kl")):
            return None
        text = f"at step 1 the KL to the reference is {divergence:.3g} nats per token, where it must be 0"
        return find(self, window, "kl", abs(divergence), text, threshold=self.kl)

    def _start(self, window: Window) -> dict[str, float]:
        """The numbers of step 1; empty where the window does not have it."""
        steps = list(window["step"])
        if 1 not in steps:
            return {}
        place = steps.index(1)
        values = {metric: window[metric][place] for metric in self.metrics if metric in window}
        return {metric: value for metric, value in values.items() if is_finite(value)}

    def _log_ratio(self, start: dict[str, float], answer: str) -> tuple[str, float | None]:
        """The metric it is read from and the mean log-ratio in nats; None where there is none."""
        ratio, reward = f"logratio/{answer}", f"rewards/{answer}"
        if ratio in start:
            return ratio, start[ratio]
        if reward not in start or self._reference_free(start):
            return reward, None
        return reward, start[reward] / self.beta

    def _reference_free(self, start: dict[str, float]) -> bool:
        """True when rewards are log-probs times one constant, within 1%."""
        pairs = [(start.get(f"rewards/{answer}"), start.get(f"logps/{answer}")) for answer in ANSWERS]
        shares = [reward / logp for reward, logp in pairs if reward is not None and logp]
        return len(shares) == 2 and min(shares) > 0 and max(shares) <= 1.01 * min(shares)
