"""What a student is taught: the data's inputs beside the stored rows of the same examples.

Rows belong together by id, never by position: a store made from other examples, or with other
labels, is refused.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from distill.datasets import Split
from distill.errors import StageError
from stores import FeatureStore
from students import FittedHead
from teachers import Prepare

MEMORY = 1 << 30  # bytes of targets that are simply loaded
WINDOW = 8  # chunks that are open at once where they are not
NEEDED = ("train", "validation", "test")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """Everything a student of one projected store learns from and is measured against."""

    target: str  # name of the projected store: gaussian-k128-s0
    targets: Mapping[str, FeatureStore]  # projected, by split
    features: Mapping[str, FeatureStore]  # the teacher's, by split
    head: FittedHead  # trained on the projected rows; it is carried over
    full_head: FittedHead  # trained on the teacher's features
    teacher: str
    teacher_parameters: int  # backbone and full head
    prepare: Prepare  # inputs -> prepared batch, as the student sees it
    preprocessing: Mapping[str, Any]  # the same in plain values, to be done again at prediction


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """One split: entry *i* of all belongs to the same example, in the stores' order."""

    name: str
    ids: Int64[np.ndarray, " rows"]
    labels: Int64[np.ndarray, " rows"]
    inputs: Sequence[Any]
    targets: FeatureStore
    features: FeatureStore


@final
@dataclass(frozen=True, eq=False)
class Reordered(Sequence[Any]):
    """Inputs in another order, opened when asked for; picklable where the inputs are."""

    inputs: Sequence[Any]
    rows: Int64[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """One example, or a slice of them still closed."""
        if isinstance(index, slice):
            return Reordered(self.inputs, self.rows[index])
        return self.inputs[int(self.rows[index])]


def match(lesson: Lesson, splits: Mapping[str, Split]) -> dict[str, Matched]:
    """Train, validation and test, matched; ``StageError`` says what does not fit."""
    return {name: _match(name, lesson, splits) for name in NEEDED}


def _match(name: str, lesson: Lesson, splits: Mapping[str, Split]) -> Matched:
    for what, stores in (
        ("the projected store", lesson.targets),
        ("the store of features", lesson.features),
    ):
        if name not in stores:
            raise StageError(f"{what} lacks the {name} split; run extract and project again")
    if name not in splits or len(splits[name].ids) == 0:
        raise StageError(f"the data have no examples in their {name} split")
    split, targets, features = splits[name], lesson.targets[name], lesson.features[name]
    for store in (targets, features):
        if store.spec.views != 1:
            raise StageError(
                f"{store.path} holds {store.spec.views} views of each example; a student is "
                f"taught from one"
            )
    ids = targets.ids()
    if not np.array_equal(ids, features.ids()):
        raise StageError(
            f"{targets.path} and {features.path} hold different examples; run project again"
        )
    rows = _rows_of(split, ids, str(targets.path))
    labels = targets.labels()
    if split.labels is not None and not np.array_equal(split.labels[rows], labels):
        at = int(np.flatnonzero(split.labels[rows] != labels)[0])
        raise StageError(
            f"example {ids[at]} has label {labels[at]} in {targets.path} and "
            f"{split.labels[rows][at]} in the data; run extract and project again"
        )
    same_order = np.array_equal(rows, np.arange(len(rows)))
    inputs = split.inputs if same_order else Reordered(split.inputs, rows)
    return Matched(
        name=name, ids=ids, labels=labels, inputs=inputs, targets=targets, features=features
    )


def _rows_of(
    split: Split, ids: Int64[np.ndarray, " rows"], where: str
) -> Int64[np.ndarray, " rows"]:
    """For each stored example, its row in the data."""
    order = np.argsort(split.ids, kind="stable")
    known = split.ids[order]
    if len(np.unique(known)) != len(known):
        raise StageError(f"the {split.name} split gives several examples the same id")
    if not np.array_equal(np.sort(ids), known):
        lost, strange = np.setdiff1d(known, ids), np.setdiff1d(ids, known)
        only = (
            f"example {lost[0]} is only in the data"
            if len(lost)
            else (
                f"example {strange[0]} is only in the store"
                if len(strange)
                else "an id stands twice"
            )
        )
        raise StageError(
            f"{where} holds other examples than the data ({split.name}: {len(ids)} rows stored, "
            f"{len(known)} in the data; {only}); run extract and project again"
        )
    rows: Int64[np.ndarray, " rows"] = order[np.searchsorted(known, ids)]
    return rows


@final
class StoreRows:
    """Target rows of a store, as tensors, by row number.

    Loaded at once where they take at most ``MEMORY`` bytes; otherwise chunks are read as they
    are asked for and the last ``WINDOW`` of them kept, which suits ``windowed_order``.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        fits = fits_in_memory(store)
        self._all = torch.from_numpy(_float32(store.features())) if fits else None
        self._chunks: OrderedDict[int, Float32[np.ndarray, "rows dim"]] = OrderedDict()

    def __call__(self, rows: Int64[np.ndarray, " rows"]) -> Tensor:
        """Rows (rows, dim) float32, in the order asked for."""
        if self._all is not None:
            return self._all.index_select(0, torch.from_numpy(rows))
        size = self._store.spec.chunk_rows
        found = np.empty((len(rows), self._store.spec.dim), dtype=np.float32)
        for index in np.unique(rows // size):
            here = rows // size == index
            found[here] = self._chunk(int(index))[rows[here] - index * size]
        return torch.from_numpy(found)

    def _chunk(self, index: int) -> Float32[np.ndarray, "rows dim"]:
        if index not in self._chunks:
            self._chunks[index] = _float32(self._store.features(*self._store.spec.rows_of(index)))
            if len(self._chunks) > WINDOW:
                self._chunks.popitem(last=False)
        self._chunks.move_to_end(index)
        return self._chunks[index]


def fits_in_memory(store: FeatureStore) -> bool:
    """Whether the rows take at most ``MEMORY`` bytes as float32."""
    return store.spec.rows * store.spec.dim * 4 <= MEMORY


def blocks(store: FeatureStore) -> Iterator[Float32[np.ndarray, "rows dim"]]:
    """Read the features of a store chunk by chunk, as float32."""
    for index in range(store.spec.chunks):
        yield _float32(store.features(*store.spec.rows_of(index)))


def logits_of(head: FittedHead, store: FeatureStore) -> Float32[np.ndarray, "rows classes"]:
    """Compute the head's logits of every stored row; the features pass by chunk by chunk."""
    return np.concatenate([rows @ head.weight.T + head.bias for rows in blocks(store)])


def spread(store: FeatureStore) -> float:
    """Root mean square deviation of all numbers from their column's mean.

    The mean is of the first pass, so the second loses no digits to large means. A store whose
    rows are all the same has spread 1: there is nothing to scale by.
    """
    total = sum(block.sum(axis=0, dtype=np.float64) for block in blocks(store))
    mean = np.asarray(total) / store.spec.rows
    squares = sum(float(np.square(block - mean).sum()) for block in blocks(store))
    deviation = float(np.sqrt(squares / (store.spec.rows * store.spec.dim)))
    return deviation or 1.0


def _float32(rows: np.ndarray) -> Float32[np.ndarray, "rows dim"]:
    return np.ascontiguousarray(rows, dtype=np.float32)
