"""Stored rows as training takes them: by row number, or block by block."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from stores import FeatureStore
from students import FittedHead

MEMORY = 1 << 30  # bytes of rows that are simply loaded
WINDOW = 8  # chunks that are open at once where they are not


@final
class StoreRows:
    """Target rows of one store or several, numbered through, as tensors.

    Loaded at once where they take at most ``MEMORY`` bytes; otherwise chunks are read as they
    are asked for and the last ``WINDOW`` of them kept, which suits ``windowed_order``.
    """

    def __init__(self, *stores: FeatureStore) -> None:
        self._stores = stores
        self._starts = np.cumsum([0, *(store.spec.rows for store in stores)])
        self._dim = stores[0].spec.dim
        fits = sum(_bytes(store) for store in stores) <= MEMORY
        self._all = _loaded(stores) if fits else None
        self._chunks: OrderedDict[tuple[int, int], Float32[np.ndarray, "rows dim"]] = OrderedDict()

    def __call__(self, rows: Int64[np.ndarray, " rows"]) -> Tensor:
        """Rows (rows, dim) float32, in the order asked for."""
        if self._all is not None:
            return self._all.index_select(0, torch.from_numpy(rows))
        found = np.empty((len(rows), self._dim), dtype=np.float32)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for part in np.unique(parts):
            size = self._stores[part].spec.chunk_rows
            own = rows - self._starts[part]
            for index in np.unique(own[parts == part] // size):
                here = (parts == part) & (own // size == index)
                found[here] = self._chunk(int(part), int(index))[own[here] - index * size]
        return torch.from_numpy(found)

    def _chunk(self, part: int, index: int) -> Float32[np.ndarray, "rows dim"]:
        key = (part, index)
        if key not in self._chunks:
            store = self._stores[part]
            self._chunks[key] = _float32(store.features(*store.spec.rows_of(index)))
            if len(self._chunks) > WINDOW:
                self._chunks.popitem(last=False)
        self._chunks.move_to_end(key)
        return self._chunks[key]


def fits_in_memory(store: FeatureStore) -> bool:
    """Whether the rows take at most ``MEMORY`` bytes as float32."""
    return _bytes(store) <= MEMORY


def _bytes(store: FeatureStore) -> int:
    return store.spec.rows * store.spec.dim * 4


def _loaded(stores: Sequence[FeatureStore]) -> Tensor:
    return torch.cat([torch.from_numpy(_float32(store.features())) for store in stores])


def blocks(store: FeatureStore) -> Iterator[Float32[np.ndarray, "rows dim"]]:
    """Read the features of a store chunk by chunk, as float32."""
    for index in range(store.spec.chunks):
        yield _float32(store.features(*store.spec.rows_of(index)))


def logits_of(head: FittedHead, store: FeatureStore) -> Float32[np.ndarray, "rows classes"]:
    """Compute the head's logits of every stored row; the features pass by chunk by chunk."""
    return np.concatenate([rows @ head.weight.T + head.bias for rows in blocks(store)])


def spread(*stores: FeatureStore) -> float:
    """``spread_of`` the rows of all stores; they are read twice."""
    return spread_of(_Blocks(stores))


def spread_of(rows: Iterable[Float32[np.ndarray, "_ dim"]]) -> float:
    """Root mean square deviation of all numbers from their column's mean.

    ``rows`` are blocks, gone through twice: the mean is of the first pass, so the second loses no
    digits to large means. Rows that are all the same have spread 1: nothing to scale by.
    """
    count, total = 0, np.zeros(())
    for block in rows:
        count, total = count + len(block), total + block.sum(axis=0, dtype=np.float64)
    mean = total / count
    squares = sum(float(np.square(block - mean).sum()) for block in rows)
    deviation = float(np.sqrt(squares / (count * mean.size)))
    return deviation or 1.0


@final
class _Blocks:
    """The blocks of several stores, as often as they are asked for."""

    def __init__(self, stores: Sequence[FeatureStore]) -> None:
        self._stores = stores

    def __iter__(self) -> Iterator[Float32[np.ndarray, "rows dim"]]:
        for store in self._stores:
            yield from blocks(store)


def _float32(rows: np.ndarray) -> Float32[np.ndarray, "rows dim"]:
    return np.ascontiguousarray(rows, dtype=np.float32)
