"""The tokens of a sequence with what is known of each: is it a target, part of an answer, the end of one."""

from __future__ import annotations

from collections.abc import Sequence

from trimpot.core.errors import UsageError
from trimpot.core.rows import Origin
from trimpot.core.samples import Branch
from trimpot.data.masks import ANSWER_MASKS


class Marked:
    """A sequence as it is put together; it begins with the ids of ``lead``."""

    def __init__(self, lead: Sequence[int] = ()) -> None:
        self.lead = len(lead)
        self.ids = list(lead)
        self.supervised = [False] * self.lead
        self.answer = [False] * self.lead
        self.ends = [False] * self.lead

    def add(self, ids: Sequence[int], supervised: bool = False, answer: bool = False, ends: bool = False) -> None:
        """Appends tokens; ``ends`` says that the last of them ends an answer."""
        # The first token after the lead is no target, so that the targets are those of the sequence without a lead.
        free = len(ids) > 0 and len(self.ids) == self.lead
        self.ids += ids
        self.supervised += [False] * free + [supervised] * (len(ids) - free)
        self.answer += [answer] * len(ids)
        self.ends += [ends and place == len(ids) - 1 for place in range(len(ids))]

    def branch(self, max_length: int, origin: Origin, start: int = 0) -> tuple[Branch, int]:
        """The branch from ``start`` on, cut to max_length tokens of the whole sequence, and the tokens cut.

        Raises:
            UsageError: no target is left.
        """
        stop = min(len(self.ids), max_length)
        mask = tuple(self.supervised[start:stop])
        if not any(mask):
            problem = f"no supervised token within the first {max_length} of {len(self.ids)} tokens"
            raise UsageError(str(origin), problem, f"Raise max_length to {len(self.ids)} or drop the row.")
        return Branch(tuple(self.ids[start:stop]), mask), len(self.ids) - max(stop, start)

    def with_streams(self, branch: Branch, weight: float, mask: str) -> Branch:
        """The branch of the whole sequence with weight_N, end_N and under a mask of answers answer_N (see Streams)."""
        targets = [place for place, flag in enumerate(branch.supervised) if flag]
        streams = {
            "weight_N": (weight,) * len(targets),
            "end_N": tuple(float(self.ends[place]) for place in targets),
        }
        if mask in ANSWER_MASKS:
            streams["answer_N"] = tuple(float(self.answer[place]) for place in targets)
        return Branch(branch.ids, branch.supervised, streams)
