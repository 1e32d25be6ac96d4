"""Making a store: begun once, filled chunk by chunk in any order, finished by its last write.

Killed at any moment and begun again with the same spec, a store ends as the same bytes: a chunk
is there whole or not at all, what is there is checked before it is kept, and scratch files go.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
from filelock import FileLock
from jaxtyping import Shaped

from stores.errors import SpecError, StoreDamagedError, StoreError
from stores.files import (
    BadFileError,
    ScratchFile,
    checksum,
    chunk_values,
    empty_chunk,
    raw_bytes,
    read_chunk,
    write_chunk,
    write_whole,
)
from stores.layout import (
    GROUP_FILE,
    ROOT_SUFFIX,
    SCRATCH_SUFFIX,
    Manifest,
    array_document,
    array_file,
    chunk_file,
    read_manifest,
    root_document,
)
from stores.locking import hold
from stores.rows import Rows, refuse_not_finite, stored_rows
from stores.spec import StoreSpec, refuse_mismatch


def create_store(path: Path, spec: StoreSpec) -> "StoreWriter":
    """Begin the store at ``path``, or go on with the one that was begun there.

    The folder above is made a zarr group where it is called ``*.zarr``. Raises
    ``StoreMismatchError`` where the store there has another spec, ``StoreLockedError`` where
    another process is writing it. A finished store has nothing pending.
    """
    path = Path(path)
    if path.suffix == ROOT_SUFFIX:
        raise SpecError(f"{path} is a folder of stores: name one in it, such as {path}/train")
    lock = hold(path)
    try:
        manifest = _begin(path, spec)
        return StoreWriter(path, manifest, lock)
    except BaseException:
        lock.release()
        raise


class StoreWriter:
    """A store being made, locked until ``close``.

    A context manager: leaving the block with nothing pending completes the store; leaving it
    otherwise, or by an exception, keeps what is written for the next time.
    """

    def __init__(self, path: Path, manifest: Manifest, lock: FileLock) -> None:
        self.path = path
        self.spec = manifest.spec
        self._complete = manifest.complete
        self._lock = lock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="store-checksum")
        self._written: dict[int, dict[str, str]] = {}  # checksums, by chunk and column
        if not self._complete:
            self._written = _sound_chunks(path, self.spec)

    def pending(self) -> list[int]:
        """Chunks that are not written yet, in order."""
        if self._complete:
            return []
        return [index for index in range(self.spec.chunks) if index not in self._written]

    def write(
        self,
        index: int,
        *,
        ids: Shaped[np.ndarray, "..."],
        features: Shaped[np.ndarray, "..."],
        labels: Shaped[np.ndarray, "..."] | None = None,
        logits: Shaped[np.ndarray, "..."] | None = None,
    ) -> None:
        """Write one chunk, whole or not at all.

        ids and labels: integers (rows,); features: floats (rows, dim); logits: floats (rows,
        logits); rows as ``spec.rows_of(index)`` says. ``InvalidRowsError`` names the first
        example that holds NaN, infinity or more than the stored type can, or an unknown label.
        """
        given = {"ids": ids, "features": features, "labels": labels, "logits": logits}
        rows = stored_rows(self.spec, index, given)
        if self._complete or index in self._written:
            raise StoreError(f"chunk {index} of the store at {self.path} is already written")
        values = {
            name: chunk_values(column, rows[name], self.spec.chunk_rows)
            for name, column in self.spec.columns.items()
        }
        check = partial(refuse_not_finite, self.spec, index, rows, given)
        self._written[index] = self._write_unit(index, values, check)

    def _write_unit(self, index: int, values: Rows, check: Callable[[], None]) -> dict[str, str]:
        """Write the chunk of every column, and return their checksums, in hex.

        The chunk of features says that the unit is there: it goes first and comes last. While its
        bytes go to the scratch file, the pool does all else.
        """
        place = self.path / chunk_file(self.spec.columns["features"], index)
        place.unlink(missing_ok=True)
        with ScratchFile(self.path / f"features{SCRATCH_SUFFIX}") as file:
            others = self._pool.submit(self._write_others, index, values, check)
            try:
                file.write(raw_bytes(values["features"]).data)
            finally:
                wait([others])  # the rows are the caller's again when we return
            checksums = others.result()
            file.write(bytes.fromhex(checksums["features"]))
            file.put(place)
        return checksums

    def _write_others(self, index: int, values: Rows, check: Callable[[], None]) -> dict[str, str]:
        """Check the unit, then write the chunks of all columns but features."""
        check()
        checksums = {"features": checksum(values["features"]).hex()}
        for name in [name for name in values if name != "features"]:
            place = self.path / chunk_file(self.spec.columns[name], index)
            scratch = self.path / f"chunk{SCRATCH_SUFFIX}"
            checksums[name] = write_chunk(place, values[name], scratch)
        return checksums

    def close(self) -> None:
        """Let go of the store as it is."""
        self._pool.shutdown()
        self._lock.release()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._complete and not self.pending():
                self._finish()
        finally:
            self.close()

    def _finish(self) -> None:
        """Write the manifest: the last write makes it true."""
        every = range(self.spec.chunks)
        checksums = {
            name: tuple(self._written[index][name] for index in every) for name in self.spec.columns
        }
        manifest = Manifest(self.spec, complete=True, checksums=checksums)
        _write_document(self.path, GROUP_FILE, manifest.to_bytes())
        self._complete = True


def _begin(path: Path, spec: StoreSpec) -> Manifest:
    """Bring the folder to where every document is in place, whatever was interrupted before."""
    path.mkdir(parents=True, exist_ok=True)
    if (path / GROUP_FILE).exists():
        manifest = read_manifest(path)
        refuse_mismatch(path, manifest.spec, spec)
        if manifest.complete:
            return manifest
    else:
        _refuse_strangers(path, spec)
        manifest = Manifest(spec, complete=False, checksums={})
    for scratch in path.glob(f"*{SCRATCH_SUFFIX}"):
        scratch.unlink()
    root = path.parent / GROUP_FILE
    if path.parent.suffix == ROOT_SUFFIX and not root.exists():
        write_whole(root, root_document(), path / f"root{SCRATCH_SUFFIX}")
    if not (path / GROUP_FILE).exists():
        _write_document(path, GROUP_FILE, manifest.to_bytes())
    for column in manifest.spec.columns.values():
        document = array_document(column, manifest.spec)
        place = path / array_file(column)
        if not place.exists() or place.read_bytes() != document:
            place.parent.mkdir(exist_ok=True)
            _write_document(path, array_file(column), document)
    return manifest


def _refuse_strangers(path: Path, spec: StoreSpec) -> None:
    """Without a manifest, chunks are kept only where their array says that they are ours."""
    for entry in path.iterdir():
        if entry.name.endswith(SCRATCH_SUFFIX):
            continue
        column = spec.columns.get(entry.name)
        if column is None:
            raise StoreError(f"{path} holds {entry.name}, but no store: choose another place")
        document = entry / GROUP_FILE
        if not document.is_file() or document.read_bytes() != array_document(column, spec):
            raise StoreDamagedError(
                f"the store at {path} has lost its {GROUP_FILE}, and its {entry.name} were made "
                "with other settings or are damaged: delete the folder to make it anew"
            )


def _sound_chunks(path: Path, spec: StoreSpec) -> dict[int, dict[str, str]]:
    """Checksums of the chunks whose every file is there and sound; reads all that is there."""
    sound: dict[int, dict[str, str]] = {}
    columns = list(reversed(spec.columns.values()))  # features first: the last to be written
    room = {column.name: empty_chunk(column, spec.chunk_rows) for column in columns}
    for index in range(spec.chunks):
        try:
            sound[index] = {
                column.name: read_chunk(path / chunk_file(column, index), room[column.name])
                for column in columns
            }
        except BadFileError:
            continue
    return sound


def _write_document(path: Path, name: str, data: bytes) -> None:
    write_whole(path / name, data, path / f"document{SCRATCH_SUFFIX}")
