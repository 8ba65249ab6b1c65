"""Rows that begin alike share what they share: a prefix tree, walked once, with no token of it computed twice.

Sorted, a row adds to the row before it only what follows their common prefix. The rows are so laid end to end, cut into
pieces of a token budget, and each piece is one forward pass, which sees the path to its first token from pieces before.
Shape suffixes: T tokens of a piece, K tokens of the path kept from pieces before, P = K + T, G key/value heads, D head
size, H hidden, N tokens that are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trimpot.models.attention import Call
from trimpot.models.policy import Policy, sliding_window

BLOCK = 128
"""Queries of one masked attention call; a row of its own beyond that is one causal call."""


@dataclass(frozen=True)
class Addition:
    """What one row adds: the ``new`` ids that follow the ``shared`` first ones, which the row before it has too."""

    row: int
    shared: int
    new: tuple[int, ...]


def additions(rows: Sequence[tuple[int, ...]]) -> list[Addition]:
    """The rows sorted, each without the prefix it shares with its predecessor; ``row`` is its index in ``rows``."""
    found, before = [], tuple[int, ...]()
    for row in sorted(range(len(rows)), key=rows.__getitem__):
        shared = common_prefix(before, rows[row])
        found.append(Addition(row, shared, rows[row][shared:]))
        before = rows[row]
    return found


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens that two sequences share at their beginning."""
    length = min(len(one), len(other))
    return next((place for place in range(length) if one[place] != other[place]), length)


def cut(parts: Sequence[Addition], token_budget: int) -> list[list[Addition]]:
    """Cuts additions into pieces of at most ``token_budget`` new tokens; a larger one is a piece of its own."""
    pieces: list[list[Addition]] = []
    load = 0
    for part in parts:
        if not pieces or (part.new and load + len(part.new) > token_budget):
            pieces.append([])
            load = 0
        pieces[-1].append(part)
        load += len(part.new)
    return pieces


@dataclass
class Layout:
    """A piece laid end to end. A *place* is an index into the P tokens: those kept, then those of the piece.

    ``positions`` are of all places, ``ids`` of the piece's. ``path`` holds the places of the row laid last.
    ``unseen_from`` says of a place that rows have left which is the first that does not see it. ``blocks`` are the
    first place of every attention call and the path to it, ``reads`` the places whose hidden states are read.
    """

    kept: int
    ids: list[int] = field(default_factory=list, init=False)
    positions: list[int] = field(init=False)
    path: list[int] = field(init=False)
    unseen_from: dict[int, int] = field(default_factory=dict, init=False)
    blocks: list[tuple[int, tuple[int, ...]]] = field(default_factory=list, init=False)
    reads: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.positions, self.path = list(range(self.kept)), list(range(self.kept))

    @property
    def places(self) -> int:
        return len(self.positions)

    def add(self, part: Addition, read: int) -> None:
        """Lays a row's new tokens; its last ``read`` tokens are read."""
        for place in self.path[part.shared :]:
            self.unseen_from[place] = self.places
        del self.path[part.shared :]
        # A long row that follows nothing is one causal call; everything else is masked, block by block.
        size = BLOCK if part.shared else max(len(part.new), 1)
        for low in range(0, len(part.new), size):
            ids = part.new[low : low + size]
            if not self.blocks or self.places + len(ids) - self.blocks[-1][0] > BLOCK:
                self.blocks.append((self.places, tuple(self.path)))
            self.path.extend(range(self.places, self.places + len(ids)))
            self.positions.extend(range(part.shared + low, part.shared + low + len(ids)))
            self.ids.extend(ids)
        self.reads.extend(self.path[len(self.path) - read :])

    def calls(self, window: int | None, device: torch.device) -> tuple[Call, ...]:
        """The attention calls of the piece, one a block; spans of queries and keys are of places."""
        unseen_from = [self.unseen_from.get(place, self.places) for place in range(self.places)]
        position_P, unseen_from_P = torch.tensor([self.positions, unseen_from])
        stops = [start for start, _ in self.blocks[1:]] + [self.places]
        calls = []
        for (start, path), stop in zip(self.blocks, stops, strict=True):
            keys = (*runs(path), (start, stop))
            query = torch.arange(start, stop)[:, None]
            key = torch.cat([torch.arange(low, high) for low, high in keys])[None]
            mask = (key <= query) & (query < unseen_from_P[key])
            if window is not None:
                mask &= position_P[query] - position_P[key] < window
            causal = not path and torch.equal(mask, key <= query)
            calls.append(Call((start, stop), keys, None if causal else mask.to(device)))
        return tuple(calls)


def runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending places as spans of neighbours."""
    spans: list[tuple[int, int]] = []
    for place in places:
        if spans and spans[-1][1] == place:
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
    return spans


@dataclass
class SharedPrefixPlan:
    """The attention plan of a piece: ``before`` are the keys and values [1, G, K, D] by layer of the path so far.

    ``after`` fills with those of the path that the next piece continues, the places ``keep``.
    """

    calls: tuple[Call, ...]
    before: list[tuple[Tensor, Tensor]]
    keep: Tensor
    after: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See AttentionPlan."""
        kept = 0
        if self.before:
            kept = self.before[layer][0].shape[2]
            key, value = (torch.cat(pair, dim=2) for pair in zip(self.before[layer], (key, value), strict=True))
        self.after.append((key.index_select(2, self.keep), value.index_select(2, self.keep)))
        outputs = [
            call.attend(
                query[:, :, call.query[0] - kept : call.query[1] - kept],
                _take(key, call.keys),
                _take(value, call.keys),
                scaling,
            )
            for call in self.calls
        ]
        return torch.cat(outputs, dim=2)


def _take(packed: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    parts = [packed[:, :, low:high] for low, high in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


@torch.no_grad()
def last_hidden(
    policy: Policy, rows: Sequence[tuple[int, ...]], read: Sequence[int], token_budget: int
) -> Iterator[tuple[list[int], Tensor]]:
    """The trunk's hidden states of the last ``read[i]`` tokens of row i, every shared token computed once.

    Yields, for one forward pass after the other, the rows that it ended (indices) and their hidden states [N, H], row
    by row in that order.

    Args:
        rows: ids of whole sequences; each opens with the policy's virtual ids, if it has any.
        token_budget: new tokens of one pass; a row that adds more has a pass of its own.

    Source: ours. Exact, as a causal prefix does not see what follows it.
    Edge cases: no rows: nothing. Equal rows are computed once.
    """
    window, device = sliding_window(policy.model.config), policy.device
    pieces = cut(additions(rows), token_budget)
    before: list[tuple[Tensor, Tensor]] = []
    hidden_KH: Tensor | None = None
    for number, piece in enumerate(pieces):
        layout = Layout(kept=piece[0].shared)
        for part in piece:
            layout.add(part, read[part.row])
        following = pieces[number + 1][0].shared if number + 1 < len(pieces) else 0
        keep = torch.tensor(layout.path[:following], dtype=torch.long, device=device)
        plan = SharedPrefixPlan(layout.calls(window, device), before, keep)
        ids_T = torch.tensor(layout.ids, device=device)
        hidden_PH = policy.hidden(ids_T, torch.tensor(layout.positions[layout.kept :], device=device), plan)
        if hidden_KH is not None:
            hidden_PH = torch.cat([hidden_KH, hidden_PH])
        before, hidden_KH = plan.after, hidden_PH[keep]
        yield [part.row for part in piece], hidden_PH[torch.tensor(layout.reads, dtype=torch.long, device=device)]
