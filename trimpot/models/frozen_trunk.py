"""What a trunk's frozen layers make of rows that come back: kept by row, and handed to the layers that train.

Shape suffixes: T packed tokens, P places, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trimpot.core.hashing import bytes_hash


@dataclass(frozen=True)
class FrozenTrunk:
    """The states that enter decoder layer ``layer``, by row: all below it is frozen, so they never change.

    ``whole``: no layer trains. The states are then those that leave the trunk, and only at the places that a head
    reads. A row's states do not depend on its neighbours in a batch, as it attends to itself alone.
    """

    layer: int
    whole: bool
    rows: Mapping[str, Tensor]

    def states(self, ids_T: Tensor, positions_T: Tensor, places_P: Tensor | None = None) -> Tensor | None:
        """The states of a packed batch, [T, H] (of a whole trunk [P, H]); None unless every row is known."""
        keys = [key for key, _ in spans(ids_T, positions_T, places_P)]
        found = [self.rows[key] for key in keys if key in self.rows]
        return torch.cat(found).to(ids_T.device) if keys and len(found) == len(keys) else None


def spans(ids_T: Tensor, positions_T: Tensor, places_P: Tensor | None = None) -> list[tuple[str, int]]:
    """Each row of a packed batch as (key, how many states it has): one for each token, or for each of its places.

    The key is a hash of ids and positions, and of the places where given. It says all that a state depends on: a row
    begins where a position is 0, and a branch where positions fall back to the length of its prefix.

    Edge cases: a row without a prefix falls apart into its branches, which do not see each other. A batch that begins
        inside a row has no key: [].
    Raises:
        ValueError: places that are not in the order of the rows.
    """
    ids, positions = ids_T.cpu(), positions_T.cpu()
    starts = (positions == 0).nonzero()[:, 0]
    if not len(starts) or starts[0] != 0:
        return []
    parts: list[tuple[Tensor, ...]] = list(zip(_split(ids, starts), _split(positions, starts), strict=True))
    if places_P is None:
        return [(_hash(part), len(part[0])) for part in parts]
    places = places_P.cpu()
    row_P = torch.searchsorted(starts, places, right=True) - 1
    if bool((row_P.diff() < 0).any()):
        raise ValueError("places must come in the order of the rows")
    per_row = (places - starts[row_P]).split(torch.bincount(row_P, minlength=len(starts)).tolist())
    return [(_hash((*part, own)), len(own)) for part, own in zip(parts, per_row, strict=True)]


def _split(values: Tensor, starts: Tensor) -> tuple[Tensor, ...]:
    return values.tensor_split(starts[1:])


def _hash(parts: tuple[Tensor, ...]) -> str:
    sizes = torch.tensor([len(part) for part in parts])
    return bytes_hash(part.contiguous().numpy().tobytes() for part in (sizes, *parts))
