"""Chunk files: written whole or not at all, and never believed without their checksum.

The bytes are those of zarr's ``bytes`` and ``crc32c`` codecs (raw little-endian values in C order,
then their CRC-32C in four bytes), written and read without a copy; a test compares them with
zarr's own. Checksums are computed while the file is moved: a pass over 4 MB in cache costs little.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import Executor
from io import FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Shaped, UInt8

from stores.layout import CRC_BYTES, FileRecord
from stores.spec import Column


class BadFileError(Exception):
    """A file does not hold what was written to it; the text completes "<file> …"."""


def write_whole(path: Path, parts: Sequence[Any], scratch: Path) -> None:
    """Put ``parts`` into a file of the same file system, which appears only when it is whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb", buffering=0) as file:
            for part in parts:
                rest = memoryview(part)
                while len(rest):
                    rest = rest[file.write(rest) :]
        scratch.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say which file
        raise
    finally:
        scratch.unlink(missing_ok=True)


def chunk_values(
    column: Column, rows: Shaped[np.ndarray, "..."], chunk_rows: int
) -> Shaped[np.ndarray, "..."]:
    """Give the values of a chunk file: ``rows`` themselves, or padded to a full chunk."""
    if len(rows) == chunk_rows:
        return np.ascontiguousarray(rows, dtype=column.dtype)
    padded = np.full((chunk_rows, *column.per_row), column.fill, dtype=column.dtype)
    padded[: len(rows)] = rows
    return padded


def write_chunk(
    path: Path, values: Shaped[np.ndarray, "..."], scratch: Path, pool: Executor
) -> FileRecord:
    """Write a chunk file and say what it holds; the pool hashes while this thread writes."""
    raw = _raw(values)
    crc = google_crc32c.value(raw).to_bytes(CRC_BYTES, "little")
    digest = pool.submit(_sha256, raw, crc)
    try:
        write_whole(path, (raw, crc), scratch)
    finally:
        sha256 = digest.result()  # the pool must not read the rows after we have returned
    return FileRecord(raw.nbytes + CRC_BYTES, sha256, crc.hex())


def read_chunk(path: Path, into: Shaped[np.ndarray, "..."], crc32c: str) -> None:
    """Fill ``into``, a whole contiguous chunk; ``BadFileError`` unless it is what was written.

    ``crc32c`` is the manifest's: a sound chunk in the wrong place is refused too.
    """
    raw = _raw(into)
    try:
        with path.open("rb", buffering=0) as file:
            crc = _fill(file, raw)
    except FileNotFoundError:
        raise BadFileError("is missing") from None
    if google_crc32c.value(raw) != int.from_bytes(crc, "little"):
        raise BadFileError("fails its checksum")
    if crc.hex() != crc32c:
        raise BadFileError("holds another chunk than was written there")


def inspect_file(path: Path, size: int) -> FileRecord:
    """Say what a file holds now; ``BadFileError`` where it is missing or has another size."""
    data = _whole(path, size)
    return FileRecord(len(data), hashlib.sha256(data).hexdigest())


def inspect_chunk(path: Path, size: int) -> FileRecord:
    """As ``inspect_file``, of a chunk file, whose own checksum must hold."""
    data = _whole(path, size)
    crc = data[-CRC_BYTES:]
    body = np.frombuffer(data, np.uint8)[:-CRC_BYTES]
    if google_crc32c.value(body).to_bytes(CRC_BYTES, "little") != crc:
        raise BadFileError("fails its checksum")
    return FileRecord(len(data), hashlib.sha256(data).hexdigest(), crc.hex())


def _whole(path: Path, size: int) -> bytes:
    """Read a file that must have this size: of another size it is not even read."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadFileError("is not a file")
        if found.st_size != size:
            raise BadFileError(f"has {found.st_size} bytes instead of {size}")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BadFileError("is missing") from None


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


def _raw(values: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, " bytes"]:
    """View a contiguous array as bytes, without a copy."""
    return values.reshape(-1).view(np.uint8)


def _sha256(raw: UInt8[np.ndarray, " bytes"], crc: bytes) -> str:
    digest = hashlib.sha256(raw.data)
    digest.update(crc)
    return digest.hexdigest()
