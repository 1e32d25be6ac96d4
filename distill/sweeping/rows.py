"""The rows of a sweep: held in memory where they fit, else read from their stores chunk by chunk.

Whatever reads them sees float32 rows of all stores in a row, train before validation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Float32, Int64
from sklearn import config_context

from distill.side_by_side import MOST_WORKERS
from projections import Projection
from stores import FeatureStore

COPIES = 3  # the rows, those that a head is fitted on, and the head's own copy of them
LONG = 2**18  # logits of all rows, from which heads are fitted side by side
BLOCK = 4096  # rows mapped at a time: what a map makes on its way stays small


@final
@dataclass(eq=False)
class Rows:
    """Rows of one store or several, as float32; in memory from the first time they are read."""

    stores: Sequence[FeatureStore]
    limit: int  # bytes that rows and what is made of them may take
    _held: Float32[np.ndarray, "rows dim"] | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(store.spec.rows for store in self.stores)

    @property
    def dim(self) -> int:
        """Width of the rows."""
        return self.stores[0].spec.dim

    @property
    def fits(self) -> bool:
        """Whether there is room for all rows and what is made of them."""
        return COPIES * 4 * self.count * self.dim <= self.limit

    def workers(self, classes: int) -> int:
        """How many heads of all rows are worth fitting at once.

        Where products are short, threads wait for Python's lock more than they compute (measured:
        300 rows of 6 classes take three times as long).
        """
        return MOST_WORKERS if self.count * classes >= LONG else 1

    def labels(self) -> Int64[np.ndarray, " rows"]:
        """Read the class of each row."""
        return np.concatenate([store.labels() for store in self.stores])

    def all(self) -> Float32[np.ndarray, "rows dim"]:
        """Every row, in memory: for rows that fit."""
        if self._held is None:
            held = np.empty((self.count, self.dim), np.float32)
            for start, features in self._read():
                held[start : start + len(features)] = features
            self._held = held
        return self._held

    def blocks(self) -> Iterator[tuple[int, Float32[np.ndarray, "block dim"]]]:
        """All rows in order, in blocks, each with the number of its first row."""
        if not self.fits:
            yield from self._read()
            return
        held = self.all()
        for start in range(0, self.count, BLOCK):
            yield start, held[start : start + BLOCK]

    def store(self, number: int) -> "Rows":
        """The rows of one store alone, from memory where they are there."""
        before = sum(store.spec.rows for store in self.stores[:number])
        part = Rows([self.stores[number]], self.limit)
        if self._held is not None:
            part._held = self._held[before : before + part.count]
        return part

    def mapped(self, maps: Sequence[Projection]) -> Iterator[Float32[np.ndarray, "rows k"]]:
        """All rows under each map, one map after the other.

        Rows that do not fit are read once for as many maps as have room together, at least one.
        """
        for group in self._groups(maps):
            filled = [np.empty((self.count, one.dim_out), np.float32) for one in group]
            for start, features in self.blocks():
                for projection, into in zip(group, filled, strict=True):
                    into[start : start + len(features)] = transformed(projection, features)
            while filled:
                yield filled.pop(0)

    def _groups(self, maps: Sequence[Projection]) -> Iterator[list[Projection]]:
        """Maps whose results are held together: one at a time where the rows are in memory."""
        room = 0 if self.fits else self.limit // (COPIES * 4 * self.count)
        group: list[Projection] = []
        for projection in maps:
            if group and sum(one.dim_out for one in group) + projection.dim_out > room:
                yield group
                group = []
            group.append(projection)
        if group:
            yield group

    def _read(self) -> Iterator[tuple[int, Float32[np.ndarray, "block dim"]]]:
        first = 0
        for store in self.stores:
            for index in range(store.spec.chunks):
                start, stop = store.spec.rows_of(index)
                yield first + start, store.features(start, stop).astype(np.float32, copy=False)
            first += store.spec.rows


def transformed(
    projection: Projection, features: Float32[np.ndarray, "rows dim"]
) -> Float32[np.ndarray, "rows k"]:
    """Rows under a map; rows of a finished store are finite, and are not looked at again."""
    with config_context(assume_finite=True):
        return np.asarray(projection.transform(features), np.float32)
