"""What a check is, what it reads, what it finds, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from trimpot.core.rows import Row
from trimpot.core.samples import Draw, Sample

if TYPE_CHECKING:
    from trimpot.data.template import ChatTemplate
    from trimpot.rollout.sampling import SamplingSettings
    from trimpot.training.loop import Plan
    from trimpot.training.streams import Trainee

PASSED, FAILED, NOT_APPLICABLE, OUT_OF_TIME = "passed", "failed", "not applicable", "out of time"


@dataclass(frozen=True)
class Memory:
    """The memory of a stage: bytes that are stated beforehand, and a way to measure them.

    ``measure`` takes the seconds it may use and gives the peak of a process that does nothing but this stage's steps;
    None: it cannot be measured here.
    """

    stated: float
    measure: Callable[[float], float | None]


@dataclass(frozen=True)
class Built:
    """What is built for one stage: the checks read it, and leave it as it is.

    ``trainee``: as the stage begins with it; None: it is not there yet, and only rows are checked. ``rows`` and
    ``samples`` belong together, one by one; ``drawn`` gives a draw of a stage that samples (None: not to be
    made). ``evaluation``: rows that must not be trained on.
    ``scratch``: the model begins with random weights. ``trainable``: which part of it trains, as a recipe says it.
    ``truncated_rows`` of the rows were cut. ``sampling``: of a stage that samples what it trains on; None: it does not.
    ``factors``: see ``TrainState.new``. ``memo`` keeps what several checks read.
    """

    stage: str
    kind: str
    rows: Sequence[Row]
    samples: Sequence[Sample]
    template: ChatTemplate
    trainee: Trainee | None = None
    plan: Plan | None = None
    evaluation: Sequence[Row] = ()
    mask: str = "assistant"
    truncated_rows: int = 0
    scratch: bool = False
    trainable: str = "all"
    sampling: SamplingSettings | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    drawn: Callable[[], Draw] | None = None
    memory: Memory | None = None
    seed: int = 0
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


class NotApplicableError(Exception):
    """The check says nothing about this stage; the text says why."""


class OutOfTimeError(Exception):
    """The check's time is over before it has an answer; the text says how far it came."""


class Deadline:
    """The time that a check has left. What runs step after step asks between steps; one pass is never broken off."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when the time is over."""
        return max(0.0, self._end - self._clock())

    def ask(self, done: str) -> None:
        """Raises OutOfTimeError with what was done when no time is left."""
        if not self.left:
            raise OutOfTimeError(done)


@dataclass(frozen=True)
class Found:
    """What a check saw: whether its rule holds, the number it measured, and the sentence that holds one to the other.

    ``details`` are for the record: decoded rows, logged predictions.
    """

    passed: bool
    measured: float | None
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


Run = Callable[[Built, Deadline], Found]


@dataclass(frozen=True)
class Check:
    """One check: what it asks, when it passes, seconds it may take, what to do when it fails.

    ``rows_only``: it runs no model. ``of_model``: its answer is the same for every stage that begins with the same
    model and trains the same part of it. ``trains``: it changes weights, which are put back. ``thorough``: it is made
    on demand, as it takes a short run.
    """

    id: str
    what: str
    rule: str
    seconds: float
    mend: str
    run: Run
    rows_only: bool = False
    of_model: bool = False
    trains: bool = False
    thorough: bool = False


@dataclass(frozen=True)
class Result:
    """A check's answer for a stage. ``status``: passed, failed, not applicable or out of time; ``seconds`` it took."""

    stage: str
    check: str
    status: str
    measured: float | None
    text: str
    rule: str
    mend: str
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.status == FAILED

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        """What failed, in one line: where, what was measured, what to do."""
        return f"{self.stage}: {self.check}: {self.text}. {self.mend}"
