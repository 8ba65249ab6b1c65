"""The scorers that the suites bring beside the verifiers of training."""

from __future__ import annotations

from trimpot.evaluation.suites.code.humaneval import CODE_SCORERS
from trimpot.evaluation.suites.instructions.requests import INSTRUCTION_SCORERS
from trimpot.evaluation.suites.open_ended import OPEN_SCORERS
from trimpot.evaluation.suites.refusals import REFUSAL_SCORERS
from trimpot.evaluation.task import Scorer

SUITE_SCORERS: dict[str, Scorer] = {**INSTRUCTION_SCORERS, **REFUSAL_SCORERS, **OPEN_SCORERS, **CODE_SCORERS}
"""Name -> scorer."""
