"""The states that frozen layers make of rows that come back: computed once, before training, in memory or in a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trimpot.core.hashing import bytes_hash
from trimpot.core.progress import Progress
from trimpot.core.samples import Sample
from trimpot.core.tensors import Batch, pack
from trimpot.models.attention import plan_for
from trimpot.models.decoder import decoder_layers, first_trained_layer, replaced_forwards
from trimpot.models.frozen_trunk import FrozenTrunk, spans
from trimpot.models.policy import Policy, sliding_window
from trimpot.models.reward import RewardModel
from trimpot.models.trunk import Trunk

MEMORY_BYTES = 2**30
"""States up to this size stay in memory, larger ones in a file that is mapped to memory."""
DISK_BYTES = 16 * 2**30
"""Files of states in a folder, all together: the oldest make room. States that are larger are not kept."""


@dataclass(frozen=True)
class Room:
    """How rows are run and where their states lie. ``folder``: for those beyond MEMORY_BYTES; None keeps no such."""

    token_budget: int
    folder: Path | None
    progress: Progress


def keep_states(
    model: Policy | RewardModel, samples: Sequence[Sample], needs: Sequence[str], room: Room
) -> FrozenTrunk | None:
    """Runs these rows through the frozen layers, once, and keeps what enters the first layer that trains.

    Before training, not as rows come up: their rounding then does not depend on where a run was stopped. ``needs`` are
    the objective's streams: they say where a reward model is read.
    Units: the hidden size times the bytes of a number, for each token; for a frozen trunk, for each place that is read.
    Edge cases: None, and training runs as ever, where the first layer trains or what precedes the layers, where the
        states are too large to keep, or where training from them does not give what the whole trunk gives (layers that
        read more than the layer before them).
    """
    layer, layers = first_trained_layer(model.model), decoder_layers(model.model.base_model)
    whole = layer == len(layers)
    if not layer or not samples or (whole and isinstance(model, Policy)):
        return None
    batches = pack(samples, room.token_budget, str(model.device))
    sizes = {
        key: count
        for batch in batches
        for key, count in spans(batch.ids_T, batch.positions_T, _places(model, batch, needs, whole))
    }

    def rows_on(states_NH: Tensor) -> FrozenTrunk:
        return FrozenTrunk(layer, whole, dict(zip(sizes, states_NH.split(list(sizes.values())), strict=True)))

    def filled(states_NH: Tensor) -> FrozenTrunk | None:
        frozen = rows_on(states_NH)
        return frozen if _fill(model, frozen, batches, needs, room.progress) else None

    shape, dtype = (sum(sizes.values()), model.model.config.hidden_size), model.model.dtype
    if shape[0] * shape[1] * dtype.itemsize <= MEMORY_BYTES:
        return filled(torch.empty(shape, dtype=dtype))
    if room.folder is None:
        return None
    return _in_file(room.folder / f"{_name(model.model, layer, sizes)}.states", shape, dtype, rows_on, filled)


@torch.no_grad()
def _fill(
    model: Policy | RewardModel, frozen: FrozenTrunk, batches: Sequence[Batch], needs: Sequence[str], progress: Progress
) -> bool:
    """Writes the states of all batches to the rows; False where the layers are not of a kind that can start from them.

    The first batch also runs to the end, and again from its states.
    """
    for number, batch in enumerate(batches, start=1):
        places_P = _places(model, batch, needs, frozen.whole)
        states, last_TH = _pass(model, frozen, batch, to_the_end=frozen.whole or number == 1)
        states = last_TH[places_P] if places_P is not None else states
        if not isinstance(states, Tensor) or states.shape[-1] != model.model.config.hidden_size:
            return False
        named = spans(batch.ids_T, batch.positions_T, places_P)
        parts = states.reshape(-1, states.shape[-1]).split([count for _, count in named])
        for (key, _), part in zip(named, parts, strict=True):
            frozen.rows[key].copy_(part)
        if number == 1 and not frozen.whole:
            again_TH = _hidden(model, Trunk(frozen=frozen), batch)
            if not torch.allclose(again_TH, last_TH, rtol=1e-3, atol=1e-3 * float(last_TH.abs().max())):
                return False
        progress(number, len(batches))
    return True


def _pass(model: Policy | RewardModel, frozen: FrozenTrunk, batch: Batch, to_the_end: bool) -> tuple[Any, Tensor]:
    """What the last frozen layer gives, and the trunk's last states (of use only if all layers ran, ``to_the_end``)."""
    layers, outputs = decoder_layers(model.model.base_model), []
    hook = layers[frozen.layer - 1].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    skipped: list[nn.Module] = [] if to_the_end else layers[frozen.layer :]
    try:
        with replaced_forwards(dict.fromkeys(skipped, _handing_on)):
            last_TH = _hidden(model, Trunk(), batch)
    finally:
        hook.remove()
    return outputs[0], last_TH


def _handing_on(states: Tensor, *_: Any, **__: Any) -> Tensor:
    return states


def _hidden(model: Policy | RewardModel, trunk: Trunk, batch: Batch) -> Tensor:
    plan = plan_for(batch, sliding_window(model.model.config))
    return trunk.hidden(model.model, {"input_ids": batch.ids_T[None]}, batch.positions_T, plan)


def _places(model: Policy | RewardModel, batch: Batch, needs: Sequence[str], whole: bool) -> Tensor | None:
    return model.places(batch, needs) if whole and isinstance(model, RewardModel) else None


def _in_file(
    file: Path, shape: tuple[int, int], dtype: torch.dtype,
    known: Callable[[Tensor], FrozenTrunk], filled: Callable[[Tensor], FrozenTrunk | None],
) -> FrozenTrunk | None:  # fmt: skip
    """The states in a file that another run left, else in one that is filled now; None where there is no room."""
    size = shape[0] * shape[1] * dtype.itemsize
    # None is there (another run may remove it at any time), or it is cut off.
    with contextlib.suppress(FileNotFoundError, RuntimeError):
        os.utime(file)
        return known(_mapped(file, shape, dtype, shared=False))
    part = _reserved(file, size) if size <= DISK_BYTES else None
    if part is None:
        return None
    try:
        frozen = filled(_mapped(part, shape, dtype, shared=True))
        if frozen is not None:
            _publish(part, file)
        return frozen
    finally:
        part.unlink(missing_ok=True)


def _name(model: Any, layer: int, rows: Iterable[str]) -> str:
    """A hash of the frozen weights, the configuration, and the rows in their order."""
    trained = {id(value) for one in decoder_layers(model.base_model)[layer:] for value in one.parameters()}
    frozen = [value for value in model.base_model.parameters() if id(value) not in trained]
    weights = (value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data for value in frozen)
    words = [model.config.to_json_string(), str(model.dtype), str(layer), *rows]
    return bytes_hash([*(word.encode() for word in words), bytes_hash(weights).encode()])


def _mapped(file: Path, shape: tuple[int, int], dtype: torch.dtype, shared: bool) -> Tensor:
    """A file as a tensor. Unshared it is read only, and one that is missing or too short is a RuntimeError."""
    return torch.from_file(str(file), shared=shared, size=shape[0] * shape[1], dtype=dtype).view(shape)


def _reserved(file: Path, size: int) -> Path | None:
    """A file of that size beside ``file``, to be filled; None where the disk has no room for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _make_room(file.parent, size)
    part = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with part.open("wb") as opened:
            # Else a full disk would end the process when a mapped page finds no place.
            os.posix_fallocate(opened.fileno(), 0, size)
    except (OSError, AttributeError):  # macOS has no such call
        part.unlink(missing_ok=True)
        return None
    return part


def _publish(part: Path, file: Path) -> None:
    """Gives a filled file its name, so that a name never stands for a part.

    Edge cases: another process has removed it to make room: nothing to name, and what is mapped stays readable.
    """
    with contextlib.suppress(FileNotFoundError):
        with part.open("rb+") as opened:
            os.fsync(opened.fileno())
        part.replace(file)


def _make_room(folder: Path, size: int) -> None:
    found = []
    for path in folder.glob("*.states*"):
        with contextlib.suppress(FileNotFoundError):  # another process makes room too
            state = path.stat()
            found.append((state.st_mtime, state.st_size, path))
    found.sort()
    total = sum(length for _, length, _ in found)
    for _, length, path in found:
        if total + size <= DISK_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= length
