"""What a student is taught: the data's inputs beside the stored rows of the same examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Int64

from distill.datasets import Dataset
from distill.errors import StageError
from distill.runs import POOL, VIEWS
from distill.stored import WINDOW, StoreRows, fits_in_memory, logits_of
from stores import FeatureStore
from students import FittedHead, batched, in_memory, shuffled_order, top_logits, windowed_order
from teachers import Prepare

UNLABELLED = -1

Rows = Int64[np.ndarray, " rows"]


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
    pool: Dataset | None = None  # what the unlabeled rows were made of
    embeddings: Float32[np.ndarray, "tokens width"] | None = None  # the teacher's, of its tokens


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """Stored rows and their inputs: entry *i* of all belongs to the same view of one example."""

    name: str
    ids: Int64[np.ndarray, " rows"]
    labels: Int64[np.ndarray, " rows"]  # -1 where there is none
    inputs: Sequence[Any]
    targets: FeatureStore
    features: FeatureStore
    views: int = 1  # of each example, stored one after the other
    used: int = 1  # of them, the first ones


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


@final
@dataclass(frozen=True, eq=False)
class Joined(Sequence[Any]):
    """Inputs of several parts, one after the other."""

    parts: tuple[Sequence[Any], ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: Any) -> Any:
        """One example, or a slice of them still closed."""
        if isinstance(index, slice):
            return Reordered(self, np.arange(len(self), dtype=np.int64)[index])
        left = int(index)
        for part in self.parts:
            if left < len(part):
                return part[left]
            left -= len(part)
        raise IndexError(index)


@final
@dataclass(frozen=True, eq=False)
class Material:
    """The rows a student is trained on: those of the train split, then those of the pool.

    Rows are numbered through all parts. An epoch learns one view of every example.
    """

    parts: tuple[Matched, ...]

    @property
    def rows(self) -> int:
        """Stored rows, all views of all parts."""
        return sum(len(part.ids) for part in self.parts)

    @property
    def inputs(self) -> Sequence[Any]:
        """The inputs of all rows, made when they are asked for."""
        return self.parts[0].inputs if len(self.parts) == 1 else self._joined()

    def _joined(self) -> Joined:
        return Joined(tuple(part.inputs for part in self.parts))

    @property
    def views(self) -> int:
        """How many views of a training example are learned; 0 when it is the example itself."""
        return self.parts[0].used if self.parts[0].name == VIEWS else 0

    @property
    def labels(self) -> Int64[np.ndarray, " rows"]:
        """Class of each row; -1 in the pool."""
        return np.concatenate([part.labels for part in self.parts])

    @property
    def target_stores(self) -> tuple[FeatureStore, ...]:
        """Projected rows, by part."""
        return tuple(part.targets for part in self.parts)

    @property
    def feature_stores(self) -> tuple[FeatureStore, ...]:
        """Full-width rows, by part."""
        return tuple(part.features for part in self.parts)

    @property
    def labelled(self) -> "Material":
        """Without rows of no label; ``StageError`` where none has one."""
        parts = tuple(part for part in self.parts if (part.labels != UNLABELLED).any())
        if not parts:
            raise StageError(
                "labels are to be learned, and the stored views are mixtures of two examples, "
                "which have none; train with --views 0, or extract views without --mix"
            )
        return Material(parts)

    @property
    def seen(self) -> str:
        """What a student of these rows has seen, in words."""
        pool = sum(len(part.ids) // part.views for part in self.parts if part.name == POOL)
        beside = f"; {pool} unlabeled examples beside them" if pool else ""
        if self.views == 0:
            clean = "learned the rows of clean inputs and saw clean inputs: no augmentation"
            return clean + beside
        return (
            f"learned {self.views} stored views of every example, another each epoch, and saw the "
            f"very same views{beside}"
        )

    def seeing(self, views: int) -> "Material":
        """The same rows and inputs, of which an epoch learns only the first ``views`` of each."""
        return Material(
            tuple(
                replace(part, used=min(views, part.views)) if part.views > 1 else part
                for part in self.parts
            )
        )

    def aiming_at(self, lesson: Lesson) -> "Material":
        """The same rows with another target."""
        parts = (replace(part, targets=lesson.targets[part.name]) for part in self.parts)
        return Material(tuple(parts))

    def take_targets(self) -> StoreRows:
        """Projected rows (rows, k) float32, by row number."""
        return StoreRows(*self.target_stores)

    def take_features(self) -> StoreRows:
        """The teacher's rows (rows, dim) float32, by row number."""
        return StoreRows(*self.feature_stores)

    def take_logits(self, head: FittedHead, *, top: int = 0) -> Any:
        """What the full head says of the teacher's rows: (rows, classes) float32, by row number.

        With ``top``, as it would be had no more than these highest of each row been stored.
        """
        every = np.concatenate([logits_of(head, store) for store in self.feature_stores])
        return in_memory(top_logits(every, top) if top else every)

    def take_projected_logits(self, head: FittedHead) -> Any:
        """What a head on the targets says of them, which no full-width row is needed for."""
        return in_memory(np.concatenate([logits_of(head, store) for store in self.target_stores]))

    def take_labels(self) -> Any:
        """Labels (rows,), by row number."""
        return in_memory(self.labels)

    def order(self, epoch: int, *, batch_size: int, seed: int) -> list[Rows]:
        """Deal the rows of each batch of an epoch: one view of every example, shuffled.

        Alike for all students; in windows of chunks where the targets stay on disk.
        """
        chosen = self.rows_of(epoch)
        if all(fits_in_memory(store) for store in self.target_stores):
            places = shuffled_order(len(chosen), batch_size, seed=seed, epoch=epoch)
            whole = len(chosen) == self.rows
            return places if whole else [chosen[batch] for batch in places]
        if len(chosen) == self.rows:
            return self._windowed(epoch, batch_size, seed)
        (every,) = self._windowed(epoch, self.rows, seed)
        wanted = np.zeros(self.rows, dtype=bool)
        wanted[chosen] = True
        return batched(every[wanted[every]], batch_size)

    def _windowed(self, epoch: int, batch_size: int, seed: int) -> list[Rows]:
        chunk = self.parts[0].targets.spec.chunk_rows
        return windowed_order(
            self.rows, batch_size, seed=seed, epoch=epoch, chunk=chunk, window=WINDOW
        )

    def rows_of(self, epoch: int) -> Rows:
        """The rows of an epoch, from 1: example i in its view (epoch - 1 + i) modulo those used.

        Another view for each neighbour, so that every epoch holds all of them in equal shares.
        """
        found, start = [], 0
        for part in self.parts:
            examples = np.arange(len(part.ids) // part.views, dtype=np.int64)
            found.append(start + examples * part.views + (epoch - 1 + examples) % part.used)
            start += len(part.ids)
        return np.concatenate(found)
