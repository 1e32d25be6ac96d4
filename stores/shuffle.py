"""Training order: whole chunks are read in random order, rows shuffled within a window of them.

Reading random rows one by one costs a chunk each; this costs each chunk once.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from stores.errors import StoreError
from stores.reader import FeatureStore
from stores.spec import Column


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows drawn from a store, and which rows they are. Columns not asked for are None."""

    rows: Int64[np.ndarray, " batch"]  # positions in the store
    ids: Int64[np.ndarray, " batch"]
    labels: Int64[np.ndarray, " batch"] | None
    features: Float[np.ndarray, "batch dim"] | None
    logits: Float32[np.ndarray, "batch classes"] | None


def shuffled_batches(
    store: FeatureStore,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    window: int = 8,
    columns: Collection[str] = ("features",),
) -> Iterator[Batch]:
    """Every row of the store once, in an order fixed by ``seed``, ``epoch`` and the sizes.

    All batches have ``batch_size`` rows but the last, which has the rest. A row can move as far
    as ``window`` chunks reach, so chunks that each hold one class need a window of many.
    """
    for name, value in (("batch_size", batch_size), ("window", window)):
        if value < 1:
            raise StoreError(f"{name} must be at least 1, got {value}")
    asked = store.known_columns(columns)  # before the first batch is asked for
    return _batches(store, batch_size, np.random.default_rng([seed, epoch]), window, asked)


def _batches(
    store: FeatureStore,
    batch_size: int,
    rng: np.random.Generator,
    window: int,
    columns: list[Column],
) -> Iterator[Batch]:
    spec = store.spec
    order = rng.permutation(spec.chunks)
    pool = _Pool(store, columns, min(spec.rows, window * spec.chunk_rows) + batch_size - 1)
    for first in range(0, spec.chunks, window):
        for index in order[first : first + window]:
            pool.add(int(index))
        last = first + window >= spec.chunks
        places = rng.permutation(pool.filled)
        whole = len(places) if last else len(places) - len(places) % batch_size
        for start in range(0, whole, batch_size):
            yield pool.batch(places[start : min(start + batch_size, whole)])
        pool.keep_only(places[whole:])


class _Pool:
    """The rows of a window in arrays that are allocated once; the first ``filled`` count."""

    def __init__(self, store: FeatureStore, columns: list[Column], capacity: int) -> None:
        self.filled = 0
        self._store = store
        self._columns = columns
        self._rows = np.empty(capacity, dtype=np.int64)
        self._arrays: dict[str, np.ndarray] = {
            column.name: np.empty((capacity, *column.per_row), dtype=column.dtype)
            for column in columns
        }

    def add(self, index: int) -> None:
        """Read a chunk behind the rows that are there."""
        start, stop = self._store.spec.rows_of(index)
        place = slice(self.filled, self.filled + stop - start)
        for column in self._columns:
            self._store.read_into(column, index, self._arrays[column.name][place])
        self._rows[place] = np.arange(start, stop)
        self.filled = place.stop

    def batch(self, places: Int64[np.ndarray, " batch"]) -> Batch:
        """Copy the rows at these places."""
        drawn: dict[str, Any] = dict.fromkeys(("labels", "features", "logits"))
        drawn |= {name: array[places] for name, array in self._arrays.items()}
        return Batch(rows=self._rows[places], **drawn)

    def keep_only(self, places: Int64[np.ndarray, " kept"]) -> None:
        """Carry the rows that filled no batch over to the next window."""
        for array in (self._rows, *self._arrays.values()):
            array[: len(places)] = array[places]
        self.filled = len(places)
