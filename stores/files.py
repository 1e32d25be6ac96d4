"""Chunk files: written whole or not at all, and never believed without their checksum.

The bytes are those of zarr's ``bytes`` and ``crc32c`` codecs (raw little-endian values in C order,
then their CRC-32C in four bytes), written and read without a copy; a test compares them with
zarr's own. CRC-32C finds any three flipped bits in a chunk of less than 256 MB, and any other
damage but one in four thousand million; processors have an instruction for it.
"""

import os
from io import FileIO
from pathlib import Path
from types import TracebackType

import google_crc32c
import numpy as np
from jaxtyping import Shaped, UInt8

from stores.layout import CRC_BYTES
from stores.spec import Column


class BadFileError(Exception):
    """A file does not hold what was written to it; the text completes "<file> …"."""


class ScratchFile:
    """A file being written under another name; it appears, whole, when it is ``put``.

    A context manager: without ``put`` nothing is left of it. Both names must be in one file system.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._file = scratch.open("wb", buffering=0)

    def write(self, data: bytes | memoryview) -> None:
        """Append, all of it: one call of the system moves at most 2 GB."""
        rest = memoryview(data)
        while len(rest):
            rest = rest[self._file.write(rest) :]

    def put(self, path: Path) -> None:
        """Close the file and give it its name."""
        self._file.close()
        self._scratch.replace(path)

    def __enter__(self) -> "ScratchFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            return
        self._file.close()
        self._scratch.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(self._scratch)  # a full disk does not say where


def write_whole(path: Path, data: bytes, scratch: Path) -> None:
    """Write a small file whole or not at all."""
    with ScratchFile(scratch) as file:
        file.write(data)
        file.put(path)


def chunk_values(
    column: Column, rows: Shaped[np.ndarray, "..."], chunk_rows: int
) -> Shaped[np.ndarray, "..."]:
    """Give the values of a chunk file: ``rows`` themselves, or padded to a full chunk."""
    if len(rows) == chunk_rows:
        return np.ascontiguousarray(rows, dtype=column.dtype)
    padded = np.full((chunk_rows, *column.per_row), column.fill, dtype=column.dtype)
    padded[: len(rows)] = rows
    return padded


def write_chunk(path: Path, values: Shaped[np.ndarray, "..."], scratch: Path) -> str:
    """Write a chunk file and return its checksum, in hex."""
    crc = checksum(values)
    with ScratchFile(scratch) as file:
        file.write(raw_bytes(values).data)
        file.write(crc)
        file.put(path)
    return crc.hex()


def read_chunk(path: Path, into: Shaped[np.ndarray, "..."]) -> str:
    """Fill ``into``, a whole contiguous chunk, and return its checksum, in hex.

    Raises ``BadFileError`` where the file is missing, has another size or fails its checksum.
    """
    raw = raw_bytes(into)
    try:
        with path.open("rb", buffering=0) as file:
            crc = _fill(file, raw)
    except (FileNotFoundError, NotADirectoryError):
        raise BadFileError("is missing") from None
    except IsADirectoryError:
        raise BadFileError("is not a file") from None
    if checksum(raw) != crc:
        raise BadFileError("fails its checksum")
    return crc.hex()


def read_known_chunk(path: Path, into: Shaped[np.ndarray, "..."], checksum: str) -> None:
    """As ``read_chunk``, of the chunk that the manifest means: a sound one elsewhere is not it."""
    if read_chunk(path, into) != checksum:
        raise BadFileError("holds another chunk than was written there")


def empty_chunk(column: Column, rows: int) -> Shaped[np.ndarray, "..."]:
    """Make room for this many rows of a column."""
    return np.empty((rows, *column.per_row), dtype=column.dtype)


def _fill(file: FileIO, raw: UInt8[np.ndarray, " bytes"]) -> bytes:
    """Read exactly the chunk into ``raw`` and return its last four bytes."""
    found = os.fstat(file.fileno()).st_size
    if found != raw.nbytes + CRC_BYTES:
        raise BadFileError(f"has {found} bytes instead of {raw.nbytes + CRC_BYTES}")
    crc = bytearray(CRC_BYTES)
    for part in (raw.data, memoryview(crc)):
        rest = part
        while len(rest):  # one call moves at most 2 GB
            moved = file.readinto(rest)
            if not moved:
                raise BadFileError("was cut short while it was read")
            rest = rest[moved:]
    return bytes(crc)


def checksum(values: Shaped[np.ndarray, "..."]) -> bytes:
    """Compute the CRC-32C of an array's bytes as zarr's codec stores it."""
    return int(google_crc32c.value(raw_bytes(values))).to_bytes(CRC_BYTES, "little")


def raw_bytes(values: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, " bytes"]:
    """View a contiguous array as bytes, without a copy."""
    return values.reshape(-1).view(np.uint8)
