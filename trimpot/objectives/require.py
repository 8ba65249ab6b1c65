"""Takes streams out of Streams and says which one is missing or misshapen, instead of a broadcast gone wrong."""

from __future__ import annotations

from torch import Tensor

from trimpot.core.tensors import Streams


def require(streams: Streams, objective: str, *names: str) -> tuple[Tensor, ...]:
    """The named streams, in order.

    Raises:
        ValueError: a stream is missing, or does not have one entry per target (_N) or per sequence (_S).
    """
    return tuple(_checked(streams, objective, name, _present(streams, objective, name)) for name in names)


def optional(streams: Streams, objective: str, name: str) -> Tensor | None:
    """The named stream, or None where the batch has none; its shape is checked as in ``require``."""
    values = getattr(streams, name)
    return None if values is None else _checked(streams, objective, name, values)


def require_pairs(streams: Streams, objective: str) -> None:
    """Checks that the sequences come in pairs: chosen, rejected, chosen, rejected, …

    Raises:
        ValueError: the number of sequences is odd.
    """
    if streams.sequences % 2:
        raise ValueError(f"{objective} reads pairs of sequences, but the batch has {streams.sequences} sequences")


def _present(streams: Streams, objective: str, name: str) -> Tensor:
    values: Tensor | None = getattr(streams, name)
    if values is None:
        raise ValueError(f"{objective} needs the stream {name}, which the batch does not have")
    return values


def _checked(streams: Streams, objective: str, name: str, values: Tensor) -> Tensor:
    length = len(streams.sequence_N) if name.endswith("_N") else streams.sequences
    if tuple(values.shape) != (length,):
        raise ValueError(f"{objective}: the stream {name} has shape {list(values.shape)}, expected [{length}]")
    return values
