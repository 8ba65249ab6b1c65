"""The check of the stated memory: a process that does the stage's steps needs what the dry run says."""

from __future__ import annotations

from trimpot.preflight.check import Built, Check, Deadline, Found, NotApplicableError

WITHIN = 0.15


def memory_estimate(built: Built, deadline: Deadline) -> Found:
    """The peak of a process of its own that trains two steps, against the estimate.

    Equation: |m̂ − m| ≤ 0.15 m, with m̂ the stated and m the measured bytes. Units: bytes.
    Source: ours.

    Example: 3.0 GB stated, 2.8 GB measured: 0.2 / 2.8 = 7%.
    """
    if built.memory is None:
        raise NotApplicableError("no memory is stated for this stage")
    measured = built.memory.measure(deadline.left)
    if measured is None:
        deadline.ask("the process was still training")
        raise NotApplicableError("the peak of a process cannot be read here")
    stated = built.memory.stated
    share = (stated - measured) / measured
    text = f"{stated / 1e9:.2f} GB stated, {measured / 1e9:.2f} GB measured ({share:+.0%})"
    return Found(abs(share) <= WITHIN, share, text)


CHECKS = (
    Check(
        "memory_estimate",
        "Does the stage need the memory that the dry run states?",
        "within 15%",
        300,
        "Plan with the measured figure; lower micro_batch_tokens or set recompute if it is too much.",
        memory_estimate,
        thorough=True,
    ),
)
