"""Tokenised rows before packing: one prefix, computed once, and the branches that continue it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trimpot.core.stats import Stat


@dataclass(frozen=True)
class Branch:
    """A continuation of a prefix.

    ``ids`` are its tokens; ``supervised[i]`` says whether token i is a target; ``streams`` holds what the
    objective needs beside log-probs: a number per branch, or a sequence with one number per supervised token.
    """

    ids: tuple[int, ...]
    supervised: tuple[bool, ...]
    streams: Mapping[str, float | Sequence[float]] = field(default_factory=dict)

    @property
    def targets(self) -> int:
        return sum(self.supervised)


@dataclass(frozen=True)
class Sample:
    """One tokenised row: SFT has one branch and usually no prefix, a pair has two, a group has many.

    The prefix is never supervised, and runs once however many branches follow it.
    """

    row_id: str
    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def tokens(self) -> int:
        return len(self.prefix) + sum(len(branch.ids) for branch in self.branches)

    @property
    def targets(self) -> int:
        return sum(branch.targets for branch in self.branches)


@dataclass(frozen=True)
class Draw:
    """What a source gives the loop for one step: samples, statistics of how they came about, records to keep.

    A record is a JSON-able dictionary for the run folder's samples (a rollout: prompt, completion, reward).
    ``idle`` are positions in ``samples`` of those that count but cannot move the loss (all advantages 0): they need
    no pass. Positions, as a row may come twice in a step that straddles two epochs.
    """

    samples: tuple[Sample, ...]
    idle: frozenset[int] = frozenset()
    stats: Mapping[str, Stat] = field(default_factory=dict)
    records: tuple[Mapping[str, object], ...] = ()
