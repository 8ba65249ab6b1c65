"""Members of a zip file within bounds, also those that Zstandard packs, which Python's zipfile reads from 3.14 on."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from trimpot.core.errors import UsageError

ZSTANDARD = 93
LARGEST_MEMBER = 512 << 20
LARGEST_WHOLE = 8 << 30
MOST_MEMBERS = 1_000_000
_HEADER = struct.Struct("<4s5H3L2H")


class Archive:
    """A zip file that is read member by member; of a name that stands there twice the last.

    Raises:
        UsageError: no zip file, or more or larger members than the bounds above, by its table or when unpacked.
    """

    def __init__(self, path: Path, mend: str) -> None:
        self._path, self._mend = path, mend
        try:
            with zipfile.ZipFile(path) as file:
                self._members = {one.filename: one for one in file.infolist()}
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise self._fault("", f"is no whole zip file ({error})") from error
        if len(self._members) > MOST_MEMBERS or sum(one.file_size for one in self._members.values()) > LARGEST_WHOLE:
            raise self._fault("", f"holds more than {MOST_MEMBERS} members or {LARGEST_WHOLE >> 30} GiB")

    @property
    def names(self) -> list[str]:
        """The members' names, in the file's order."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """The whole content of a member.

        Raises:
            UsageError: one line that names file and member: too large, damaged, encrypted, or packed another way.
        """
        member = self._members[name]
        if member.file_size > LARGEST_MEMBER:
            raise self._fault(name, f"is larger than {LARGEST_MEMBER >> 20} MiB")
        try:
            if member.compress_type == ZSTANDARD:
                content = self._zstandard(member)
            else:
                with zipfile.ZipFile(self._path) as archive, archive.open(member) as file:
                    content = file.read(member.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError, EOFError) as error:
            raise self._fault(name, f"cannot be unpacked ({' '.join(str(error).split())[:100]})") from error
        if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
            raise self._fault(name, "is damaged")
        return content

    def _zstandard(self, member: zipfile.ZipInfo) -> bytes:
        import pyarrow

        with self._path.open("rb") as file:
            file.seek(member.header_offset)
            fields = _HEADER.unpack(file.read(_HEADER.size))
            if fields[0] != b"PK\x03\x04" or fields[2] & 1:
                raise zipfile.BadZipFile("encrypted, or no member where the table says")
            file.seek(member.header_offset + _HEADER.size + fields[9] + fields[10])
            packed = file.read(member.compress_size)
        content = bytearray()
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd") as stream:
            while len(content) <= member.file_size and (chunk := stream.read(1 << 20)):
                content += chunk
        return bytes(content)

    def _fault(self, name: str, problem: str) -> UsageError:
        return UsageError(f"{self._path}: {name}" if name else str(self._path), problem, self._mend)
