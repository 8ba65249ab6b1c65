"""TensorBoard event files: the scalars of a TFRecord file of Event messages, without TensorBoard or TensorFlow.

A record is its length (uint64, little endian), the masked CRC-32C of those eight bytes, the data, the masked CRC-32C of
the data. The data are an Event in protobuf's wire format (tensorflow/core/util/event.proto, summary.proto), of which
four fields of two messages matter here. The package tensorboard reads them too, but brings ten others with it, grpcio,
protobuf and pillow among them; it is the oracle of the tests instead.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from trimpot.core.errors import UsageError
from trimpot.core.progress import Progress
from trimpot.doctor.log import RawLog

PATTERN = "*tfevents*"
TRUNCATED = "its last record is cut off (the run was killed, or goes on): read up to there"
_STEP, _SUMMARY, _VALUE, _TAG, _SIMPLE, _TENSOR = 2, 5, 1, 1, 2, 8
_DTYPE, _SHAPE, _CONTENT, _FLOATS, _DOUBLES = 1, 2, 4, 5, 6
_FLOAT, _DOUBLE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_LARGEST = 1 << 30
"""No record of scalars is so long: a longer length is a broken one."""


def read_events(folder: Path, files: list[Path], progress: Progress) -> RawLog:
    """The scalars of one run's event files, oldest first: TensorBoard orders the files of a run by their names.

    Edge cases: a last record that is cut off is left out, with a note; a file without scalars adds no row.

    Raises:
        UsageError: a file is no event file, or a record before the last is damaged; names file and byte.
    """
    rows: list[dict[str, object]] = []
    notes: list[str] = []
    done, total = 0, sum(file.stat().st_size for file in files)
    for file in sorted(files):
        try:
            data = file.read_bytes()
        except OSError as error:
            raise UsageError(str(file), f"cannot be read ({error.strerror})", "Check the file.") from error
        offset = 0
        for offset, record in _records(file, data, notes):
            for tag, step, value in _scalars(file, offset, record):
                if rows and rows[-1]["step"] == step:
                    rows[-1][tag] = value
                else:
                    rows.append({"step": step, tag: value})
            progress(done + offset, total)
        done += len(data)
        progress(done, total)
    return RawLog(str(folder), "TensorBoard", rows, notes=tuple(notes), of_transformers=_is_transformers(rows))


def _is_transformers(rows: list[dict[str, object]]) -> bool:
    return any("train/loss" in row and "train/learning_rate" in row for row in rows)


def _records(file: Path, data: bytes, notes: list[str]) -> Iterator[tuple[int, bytes]]:
    """(offset, data) of every record."""
    offset = 0
    while offset < len(data):
        head = data[offset : offset + 12]
        length = int.from_bytes(head[:8], "little")
        whole = len(head) == 12
        if whole and (length > _LARGEST or masked_crc(head[:8]) != int.from_bytes(head[8:], "little")):
            raise _damaged(file, offset, "the length of a record and its checksum differ")
        if not whole or offset + 16 + length > len(data):
            if offset == 0:
                raise UsageError(str(file), "is cut off within its first record", "Give a whole event file.")
            notes.append(f"{file.name}: {TRUNCATED}")
            return
        record = data[offset + 12 : offset + 12 + length]
        stated = int.from_bytes(data[offset + 12 + length : offset + 16 + length], "little")
        if masked_crc(record) != stated:
            raise _damaged(file, offset, "a record and its checksum differ")
        yield offset, record
        offset += 16 + length


def _damaged(file: Path, offset: int, problem: str) -> UsageError:
    mend = "Copy the file again, or give trainer_state.json."
    return UsageError(str(file), f"is no event file, or damaged: {problem} (byte {offset})", mend)


def _scalars(file: Path, offset: int, record: bytes) -> Iterator[tuple[str, int, float]]:
    """(tag, step, value) of every scalar in an Event."""
    try:
        event = list(_fields(record))
        step = next((value for number, value in event if number == _STEP and isinstance(value, int)), 0)
        for number, summary in event:
            if number == _SUMMARY and isinstance(summary, bytes):
                for inner, value in _fields(summary):
                    if inner == _VALUE and isinstance(value, bytes) and (found := _value(value)) is not None:
                        yield found[0], step, found[1]
    except (IndexError, ValueError, struct.error) as error:
        raise _damaged(file, offset, "a record is no Event") from error


def _value(message: bytes) -> tuple[str, float] | None:
    """(tag, value) of a Summary.Value that holds one number: ``simple_value``, or a tensor of one element."""
    tag, value = None, None
    for number, found in _fields(message):
        if number == _TAG and isinstance(found, bytes):
            tag = found.decode("utf-8")
        elif number == _SIMPLE and isinstance(found, bytes):
            value = struct.unpack("<f", found)[0]
        elif number == _TENSOR and isinstance(found, bytes):
            value = _one_element(found)
    return None if tag is None or value is None else (tag, value)


def _one_element(tensor: bytes) -> float | None:
    """The number of a float or double tensor with one element; None for any other."""
    kind, numbers = 0, b""
    for number, found in _fields(tensor):
        if number == _DTYPE and isinstance(found, int):
            kind = found
        elif number in (_CONTENT, _FLOATS, _DOUBLES) and isinstance(found, bytes):
            numbers = found
    form = {_FLOAT: "<f", _DOUBLE: "<d"}.get(kind)
    if form is None or len(numbers) != struct.calcsize(form):
        return None
    value: float = struct.unpack(form, numbers)[0]
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protobuf message: integers of varints, bytes of everything else.

    Raises:
        ValueError, IndexError: it is no message.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        wire = key & 7
        if wire == _VARINT:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        if wire == _BYTES:
            width, place = _varint(message, place)
        elif wire in _WIDTHS:
            width = _WIDTHS[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if place + width > len(message):
            raise ValueError("a field is longer than its message")
        yield key >> 3, message[place : place + width]
        place += width


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """The varint at ``place`` as a signed 64-bit integer, and the place behind it."""
    value, shift = 0, 0
    while shift < 70:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return (value - (1 << 64) if value >> 63 else value), place
    raise ValueError("a varint of more than ten bytes")


@cache
def _crc_table() -> tuple[int, ...]:
    """CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of every byte."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """The CRC-32C of the data.

    Example: of b"123456789" it is 0xe3069283 (the check value of RFC 3720's polynomial).
    """
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """The CRC-32C as TFRecord stores it: rotated right by 15 bits, plus 0xa282ead8, in 32 bits."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
