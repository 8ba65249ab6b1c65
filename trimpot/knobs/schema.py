"""What the data files hold: sources, claims and cards. A key that is not named here is refused."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

Verified = Literal["primary", "secondary", "not verified"]
Direction = Literal["up", "down"]


class Record(BaseModel):
    """The base of all records: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Record):
    """Something a card or claim cites.

    ``title`` and ``address`` are as it is usually given; ``really`` is what stands there; ``right_address`` is the
    one that was meant when the given one is wrong. ``verified``: read in the primary text, in another text that
    quotes it, or not at all; ``how`` says where.
    """

    key: str
    title: str
    address: str
    really: str
    right_address: str | None = None
    verified: Verified
    how: str


class Claim(Record):
    """A statement that a measurement can confirm or refute. Its status is computed from evidence, never written here.

    ``direction`` is the sign the statement gives to the quantity its study tests; ``number`` is the source's own,
    None when it gives none. ``study`` is the study that tests it, None when there is none yet.
    """

    id: str
    statement: str
    source: str
    place: str
    condition: str
    metric: str
    direction: Direction
    number: float | None = None
    study: str | None = None


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

    ``recipe`` is the setting it is mainly turned by, in the form `trimpot.knobs.keys` describes; ``also`` are its
    further settings, each with a default and range of its own. ``moves`` hold when the knob is ``turned`` so: raised,
    or in words where it is a choice.
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
