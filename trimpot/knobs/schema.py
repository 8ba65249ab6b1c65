"""What the data files hold: sources, claims, disagreements, cards and topics. A key not named here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Verified = Literal["primary", "secondary", "not verified"]
Flag = Literal["none", "mislabelled", "dead", "moved"]
Direction = Literal["up", "down", "equal"]
TOPICS: Mapping[int, str] = {
    1: "Post-training",
    2: "Training dynamics and optimisation at scale",
    3: "Evaluation, metrics and model debugging",
    4: "Data as a lever",
    5: "Distributed training",
    6: "Efficiency that affects training behaviour",
    7: "Experiment design and taste",
    8: "Reading research without getting lost",
}
"""The topics of the reading list."""


class Record(BaseModel):
    """The base of all records: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Listed(Record):
    """Where the reading list has a source. Topics 1 to 4 are its tier 1, 5 and 6 tier 2, 7 and 8 tier 3."""

    topic: int = Field(ge=min(TOPICS), le=max(TOPICS))
    part: Literal["core", "practitioner"]

    @property
    def tier(self) -> int:
        return 1 if self.topic <= 4 else 2 if self.topic <= 6 else 3


class Source(Record):
    """Something a card or claim cites, or that the reading list names.

    ``title`` and ``address`` are as it is usually given; ``really`` is what stands there. ``flag``: mislabelled, what
    stands there is another work than the title says; dead, nothing was found there; moved, it stands elsewhere. Then
    ``meant`` says what was meant and ``right_address`` where that is, None when it is unknown. ``verified``: read in
    the primary text, in another text that quotes it, or not at all; ``how`` says where. ``no_claims``: why no claim is
    taken from a source of the list.
    """

    key: str
    title: str
    address: str
    reading_list: Listed | None = None
    flag: Flag = "none"
    really: str
    meant: str | None = None
    right_address: str | None = None
    no_claims: str | None = None
    verified: Verified
    how: str

    @property
    def unreachable(self) -> bool:
        """True when nothing right is known to stand anywhere."""
        return self.flag in ("mislabelled", "dead") and self.right_address is None


class Claim(Record):
    """A statement that a measurement can confirm or refute. Its status is computed from evidence, never written here.

    ``place`` is the table or section, or says that it is known secondhand; ``condition`` the model, data and scale.
    ``direction`` is the sign the statement gives to the quantity its study tests, or equal where it says that a
    metric has a value or does not change; ``number`` is the source's own, None when it gives none. ``knob`` is a card's
    path. ``study`` is the study that tests it, None when there is none yet, and whose verdict is the claim's status;
    ``also`` are further studies that test the same words on another model or scale; ``untestable`` is the hardware or
    data without which none can be made here.
    """

    id: str
    statement: str
    source: str
    place: str
    condition: str
    metric: str
    direction: Direction
    number: float | None = None
    knob: str | None = None
    study: str | None = None
    also: tuple[str, ...] = ()
    untestable: str | None = None

    @property
    def studies(self) -> tuple[str, ...]:
        """All studies that test it, the one whose verdict is its status first."""
        return self.also if self.study is None else (self.study, *self.also)


class Side(Record):
    """One side of a disagreement: a claim by its id, or a statement with its source and place."""

    claim: str | None = None
    statement: str | None = None
    source: str | None = None
    place: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        written = (self.statement, self.source, self.place)
        if self.claim is None and not all(written):
            raise ValueError("names neither a claim nor a statement with source and place")
        if self.claim is not None and any(written):
            raise ValueError("names a claim: statement, source and place are the claim's")
        return self


class Disagreement(Record):
    """Where sources contradict each other, and what decides.

    ``study`` is the study whose evidence decides; None when there is none yet. ``decides`` says what it compares, or
    would.
    """

    id: str
    question: str
    sides: tuple[Side, ...] = Field(min_length=2)
    knob: str | None = None
    study: str | None = None
    decides: str


class Statement(Record):
    """A piece of a card's text. With a digit in it, it names the source (a key) or the claim it was measured for."""

    text: str
    source: str | None = None
    claim: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        """A text alone is a statement without a source."""
        return {"text": value} if isinstance(value, str) else value


class Default(Record):
    """The value a recipe takes when nothing is given, whose it is, and where that is written."""

    value: bool | float | int | str | None
    whose: str
    source: str


class Knob(Record):
    """A further setting of a card's technique. ``recipe`` as on the card."""

    recipe: str
    what: Statement
    default: Default
    range: Statement


class FailureMode(Record):
    """When the knob fails: the condition, the metric that tells, the detector that watches it, the mend.

    ``detector`` is a name of ``trimpot.detectors.DETECTORS``, or ``undetected``.
    """

    condition: Statement
    signal: str
    detector: str
    mend: Statement


class Move(Record):
    """A metric the knob moves when it is turned: up, down or both ways, and how."""

    sign: Literal["+", "-", "±"]
    how: Statement


class Card(Record):
    """What a technique's knobs are, when it fails and which metrics it moves.

    ``recipe`` is the setting it is mainly turned by, in the form `trimpot.knobs.keys` describes, which for an
    evaluation may stand elsewhere than in a recipe; ``also`` are its further settings, each with a default and range of
    its own. ``moves`` hold when the knob is ``turned`` so: raised, or in words where it is a choice.
    """

    path: str
    topic: str
    recipe: str
    what: Statement
    equation: Statement
    default: Default
    range: Statement
    fails_when: tuple[FailureMode, ...]
    moves: dict[str, Move]
    turned: str = "Raised"
    core_source: str
    practitioner_source: str
    disagreement: Statement
    claims: tuple[str, ...] = ()
    also: tuple[Knob, ...] = ()

    def knobs(self) -> list[tuple[str, Knob]]:
        """All settings of the card, its own first, each with the place it has on the card."""
        own = Knob(recipe=self.recipe, what=self.what, default=self.default, range=self.range)
        return [("", own), *((f"also[{number}]", knob) for number, knob in enumerate(self.also))]

    def statements(self) -> list[tuple[str, Statement]]:
        """Every piece of text with the place it has on the card."""
        found = [("what", self.what), ("equation", self.equation), ("range", self.range)]
        found.append(("disagreement", self.disagreement))
        for number, mode in enumerate(self.fails_when):
            found += [
                (f"fails_when[{number}].condition", mode.condition),
                (f"fails_when[{number}].mend", mode.mend),
            ]
        for number, knob in enumerate(self.also):
            found += [(f"also[{number}].what", knob.what), (f"also[{number}].range", knob.range)]
        return found + [(f"moves.{metric}", move.how) for metric, move in self.moves.items()]


class Answer(Record):
    """An answer to one of a topic's three questions, with what it is tied to; the evidence of that is looked up.

    With a digit in ``text`` it names a claim or a source. ``counts_claims``: it is about the claims themselves, of
    which it is counted how many carry evidence.
    """

    text: str
    claims: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    source: str | None = None
    counts_claims: bool = False


class Topic(Record):
    """A topic of the reading list in a few lines.

    ``number`` is its number in TOPICS; ``cards`` are beginnings of the topic that a card names, of which the longest
    that fits counts. ``core`` and ``practitioner`` are the sources it was read from, None where no source that the list
    has there is reachable. Where the two disagree: ``disagreements`` by id, or ``differs``, a statement with a source.
    """

    id: str
    number: int = Field(ge=min(TOPICS), le=max(TOPICS))
    cards: tuple[str, ...] = Field(min_length=1)
    core: str | None = None
    practitioner: str | None = None
    disagreements: tuple[str, ...] = ()
    differs: Statement | None = None
    knob: Answer
    fails: Answer
    metric: Answer

    def answers(self) -> dict[str, Answer]:
        """The three answers by name: knob, fails, metric."""
        return {"knob": self.knob, "fails": self.fails, "metric": self.metric}
