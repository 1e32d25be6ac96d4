"""Reading a finished store: every chunk is checked as it is read, one after the other.

What does not pass raises ``StoreDamagedError`` with the chunk and its rows; a chunk that is not
there is never read as zeros. ``stores.layout`` says what lies where.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped

from stores.errors import IncompleteStoreError, MissingStoreError, StoreDamagedError, StoreError
from stores.files import BadFileError, empty_chunk, read_known_chunk
from stores.layout import Manifest, array_document, array_file, chunk_file, read_manifest
from stores.spec import Column, StoreSpec

SPLIT_ORDER = ("train", "validation", "test")  # then any others, by name


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Rows ``start`` to ``stop`` of a store. Columns that were not asked for are None."""

    index: int
    start: int
    stop: int
    ids: Int64[np.ndarray, " rows"]
    labels: Int64[np.ndarray, " rows"] | None
    features: Float[np.ndarray, "rows dim"] | None
    logits: Float32[np.ndarray, "rows classes"] | None


@dataclass(frozen=True)
class FeatureStore:
    """A finished store, read-only. ``digest`` is the sha256 identity of its content."""

    path: Path
    spec: StoreSpec
    digest: str
    _manifest: Manifest = field(repr=False, compare=False)

    def ids(self) -> Int64[np.ndarray, " rows"]:
        """Read the number of the example that each row belongs to."""
        return self._rows("ids", 0, None)

    def labels(self) -> Int64[np.ndarray, " rows"]:
        """Read the class of each row; ``StoreError`` where the store was made without labels."""
        return self._rows("labels", 0, None)

    def features(self, start: int = 0, stop: int | None = None) -> Float[np.ndarray, "rows dim"]:
        """Read rows ``start`` to ``stop`` into one array of the stored dtype."""
        return self._rows("features", start, stop)

    def logits(
        self, start: int = 0, stop: int | None = None
    ) -> Float32[np.ndarray, "rows classes"]:
        """Read the teacher's own logits; ``StoreError`` where none are stored."""
        return self._rows("logits", start, stop)

    def chunks(self, columns: Collection[str] = ("features",)) -> Iterator[Chunk]:
        """All rows in order, a chunk at a time; reads the ids and the columns asked for."""
        asked = self.known_columns(columns)
        for index in range(self.spec.chunks):
            start, stop = self.spec.rows_of(index)
            read: dict[str, Any] = dict.fromkeys(("labels", "features", "logits"))
            for column in asked:
                read[column.name] = empty_chunk(column, stop - start)
                self.read_into(column, index, read[column.name])
            yield Chunk(index=index, start=start, stop=stop, **read)

    def known_columns(self, columns: Collection[str]) -> list[Column]:
        """``ids`` and the columns of these names; ``StoreError`` where the store lacks one."""
        for name in columns:
            if name not in self.spec.columns:
                held = ", ".join(self.spec.columns)
                raise StoreError(f"the store at {self.path} holds no {name}, only {held}")
        return [column for name, column in self.spec.columns.items() if name in {"ids", *columns}]

    def read_into(self, column: Column, index: int, into: Shaped[np.ndarray, "..."]) -> None:
        """Fill ``into`` with the rows of one chunk; it may be part of a larger array."""
        start, stop = self.spec.rows_of(index)
        whole = stop - start == self.spec.chunk_rows
        target = into if whole else empty_chunk(column, self.spec.chunk_rows)
        file = self.path / chunk_file(column, index)
        try:
            read_known_chunk(file, target, self._manifest.checksums[column.name][index])
        except BadFileError as error:
            raise StoreDamagedError(
                f"{file} {error}: chunk {index}, rows {start} to {stop - 1}; repair "
                "the store and run the stage that makes it again"
            ) from None
        if not whole:
            into[...] = target[: stop - start]

    def _rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        (column,) = (c for c in self.known_columns([name]) if c.name == name)
        stop = self.spec.rows if stop is None else stop
        if not 0 <= start <= stop <= self.spec.rows:
            raise StoreError(f"rows {start} to {stop} are not within 0 to {self.spec.rows}")
        rows = empty_chunk(column, stop - start)
        step = self.spec.chunk_rows
        for index in range(start // step, -(-stop // step) if stop > start else 0):
            first, last = self.spec.rows_of(index)
            low, high = max(first, start), min(last, stop)
            if (low, high) == (first, last):
                self.read_into(column, index, rows[low - start : high - start])
            else:
                chunk = empty_chunk(column, last - first)
                self.read_into(column, index, chunk)
                rows[low - start : high - start] = chunk[low - first : high - first]
        return rows


def open_store(path: Path) -> FeatureStore:
    """Open the finished store at ``path``; its chunks are checked when they are read."""
    path = Path(path)
    manifest = read_manifest(path)
    if not manifest.complete:
        raise IncompleteStoreError(
            f"the store at {path} was begun but never finished: run the stage that makes it again"
        )
    for column in manifest.spec.columns.values():
        place = path / array_file(column)
        if not place.is_file() or place.read_bytes() != array_document(column, manifest.spec):
            raise StoreDamagedError(
                f"{place} is missing or damaged: repair the store and run the stage that makes "
                "it again"
            )
    return FeatureStore(path, manifest.spec, manifest.digest(), manifest)


def recorded_spec(path: Path) -> StoreSpec:
    """Read the spec of a store, finished or begun; ``MissingStoreError`` where there is none."""
    return read_manifest(Path(path)).spec


def open_splits(root: Path) -> dict[str, FeatureStore]:
    """Every store in a folder, by name: train, validation, test, then any others.

    ``MissingStoreError`` where there is none, ``IncompleteStoreError`` where one is not finished.
    """
    root = Path(root)
    splits = split_folders(root)
    if not splits:
        raise MissingStoreError(f"there is no store in {root}")
    stores = {}
    for path in splits:
        try:
            stores[path.name] = open_store(path)
        except MissingStoreError:  # killed before its first file was in place
            raise IncompleteStoreError(
                f"the store at {path} was begun but never finished: run the stage that makes it "
                "again"
            ) from None
    return stores


def split_folders(root: Path) -> list[Path]:
    """List the folders of the stores in ``root``, in the order of their use."""
    if not root.is_dir():
        return []
    known = {name: place for place, name in enumerate(SPLIT_ORDER)}
    folders = [entry for entry in root.iterdir() if entry.is_dir()]
    return sorted(folders, key=lambda entry: (known.get(entry.name, len(known)), entry.name))
