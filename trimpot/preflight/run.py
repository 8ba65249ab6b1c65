"""Runs checks on what is built for a stage, one after the other; none leaves a trace."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trimpot.core.progress import Progress, ignore
from trimpot.preflight.check import (
    FAILED,
    NOT_APPLICABLE,
    OUT_OF_TIME,
    PASSED,
    Built,
    Check,
    Deadline,
    NotApplicableError,
    OutOfTimeError,
    Result,
)


def run_checks(built: Built, checks: Sequence[Check], progress: Progress = ignore) -> tuple[Result, ...]:
    """The checks' answers in their order; ``progress`` hears of every check that is done.

    Edge cases: a check that raises has failed, and its text names the exception: what is built cannot do what the stage
    asks of it. One that needs a model that is not there yet is not applicable.
    """
    results = []
    for number, check in enumerate(checks, start=1):
        results.append(_one(built, check))
        progress(number, len(checks))
    return tuple(results)


def _one(built: Built, check: Check) -> Result:
    from trimpot.preflight.guard import as_it_was

    began = time.perf_counter()

    def result(status: str, text: str, **more: object) -> Result:
        measured, details = more.get("measured"), more.get("details", {})
        seconds = time.perf_counter() - began
        return Result(built.stage, check.id, status, measured, text, check.rule, check.mend, seconds, details)  # type: ignore[arg-type]

    if built.trainee is None and not check.rows_only:
        return result(NOT_APPLICABLE, "the model of this stage is not there yet")
    if check.trains:
        # Kept gradients are as large as the weights that are about to be copied.
        built.memo.clear()
    try:
        with as_it_was(built.trainee, check.trains):
            found = check.run(built, Deadline(check.seconds))
    except NotApplicableError as error:
        return result(NOT_APPLICABLE, str(error))
    except OutOfTimeError as error:
        return result(OUT_OF_TIME, f"{check.seconds:g} s are over; {error}")
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        return result(FAILED, f"raised {type(error).__name__}: {lines[0]}")
    return result(PASSED if found.passed else FAILED, found.text, measured=found.measured, details=found.details)
