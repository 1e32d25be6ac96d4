"""Gathering moments in one pass over rows, whatever the blocks they come in.

Rows are taken relative to a fixed centre a_c near their class mean, the mean of the class's rows
in the batch in which it is first met. Then sum (x - m_c)(x - m_c)ᵀ over the rows of a class is
sum (x - a_c)(x - a_c)ᵀ - n_c (m_c - a_c)(m_c - a_c)ᵀ, from which little cancels, however far the
rows lie from the origin and the classes from one another (shifted data: Chan, Golub & LeVeque,
1983, doi:10.1080/00031305.1983.10483115). So products may be float32; their sums are float64.
"""

from collections.abc import Iterable
from typing import final

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.linalg import blas
from scipy.sparse import csr_array

from projections.base import ProjectionError
from projections.moments import Moments

BATCH = 4096  # rows in one product: its float32 rounding stays below 2e-6, adding it costs 2 %
SAFE = (1e-28, 1e32)  # squares outside are taken in float64: float32 would lose them
TILE = 256  # rows and columns of a block that the cache holds

# (features (rows, dim), labels (rows,)) and the fold numbers (rows,): axes without names, as those
# of one block are not those of the next
Block = tuple[Float[np.ndarray, "_ _"], Int64[np.ndarray, " _"] | None]
FoldBlock = tuple[Float[np.ndarray, "_ _"], Int64[np.ndarray, " _"] | None, Int64[np.ndarray, " _"]]


def gather_moments(blocks: Iterable[Block], *, classes: int = 0) -> Moments:
    """Moments of all rows in one pass over (features, labels).

    Labels are None for unlabelled rows, which are one class, and else lie in [0, ``classes``).
    The result does not depend on how the rows are cut into blocks, bit for bit. Products of
    float32 (and float16) rows are float32, their sums float64: each entry of ``within`` is off by
    less than 1e-5 of the geometric mean of its two diagonal entries. float64 rows are multiplied
    in float64. Rows that are not finite, labels out of range, blocks of several widths and no
    rows at all raise ``ProjectionError``.
    """
    seen, whole = _Checking(classes), _Summing(classes, _Scratch())
    for features, labels in blocks:
        whole.add(features, seen.codes(features, labels))
    return whole.finish("there are no rows to take moments of")


def gather_fold_moments(
    blocks: Iterable[FoldBlock], *, classes: int, folds: int
) -> tuple[Moments, ...]:
    """Moments of each fold in one pass over (features, labels, fold numbers).

    Fold numbers lie in [0, ``folds``). Each fold's moments are, bit for bit, those that
    ``gather_moments`` finds of its rows. A fold without rows raises ``ProjectionError``.
    """
    seen, scratch = _Checking(classes), _Scratch()
    parts = [_Summing(classes, scratch) for _ in range(folds)]
    for features, labels, fold in blocks:
        first = seen.rows
        codes = seen.codes(features, labels)
        _check_range(fold, rows=len(features), first=first, within=folds, what="fold")
        for number, part in enumerate(parts):
            chosen = np.flatnonzero(fold == number)
            part.add(features[chosen], codes[chosen])
    return tuple(part.finish(f"fold {number} has no rows") for number, part in enumerate(parts))


@final
class _Checking:
    """Refuses rows that cannot be summed, by their number in the whole pass."""

    def __init__(self, classes: int) -> None:
        self.classes = max(classes, 1)
        self.rows = 0
        self.dim = 0

    def codes(
        self, features: Float[np.ndarray, "rows dim"], labels: Int64[np.ndarray, " rows"] | None
    ) -> Int64[np.ndarray, " rows"]:
        """Class of each row of the next block."""
        if features.ndim != 2 or features.shape[1] < 1 or self.dim not in (0, features.shape[1]):
            before = f" after rows of width {self.dim}" if self.dim else ""
            raise ProjectionError(f"a block of features has shape {features.shape}{before}")
        # one sum tells that all is well; which row is wrong is asked only then
        with np.errstate(all="ignore"):
            sound = np.isfinite(features.sum(dtype=np.result_type(features, np.float32)))
        if not sound and not (finite := np.isfinite(features).all(axis=1)).all():
            row = self.rows + int(np.argmin(finite))
            raise ProjectionError(f"row {row} holds NaN or infinite features; leave it out")
        if labels is None:
            if self.classes > 1:
                raise ProjectionError(
                    f"rows from {self.rows} on have no labels, but there are {self.classes} classes"
                )
            labels = np.zeros(len(features), dtype=np.int64)
        _check_range(labels, rows=len(features), first=self.rows, within=self.classes, what="label")
        self.dim = features.shape[1]
        self.rows += len(features)
        return labels


def _check_range(
    numbers: Int64[np.ndarray, " numbers"], *, rows: int, first: int, within: int, what: str
) -> None:
    if len(numbers) != rows:
        raise ProjectionError(f"{rows} rows came with {len(numbers)} {what} numbers, not one each")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= within))
    if len(wrong):
        at = wrong[0]
        raise ProjectionError(
            f"row {first + at} has {what} {numbers[at]}, which is not in 0 to {within - 1}"
        )


@final
class _Scratch:
    """Room for one batch's deviations and products, used again: fresh pages cost much time."""

    def __init__(self) -> None:
        self.deviations = np.empty((0, 0), dtype=np.float32)
        self.product = np.empty((0, 0), dtype=np.float32)

    def for_rows(self, rows: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
        """Room for the deviations of rows of this shape and type."""
        if self.deviations.shape[1] != rows.shape[1] or self.deviations.dtype != rows.dtype:
            self.deviations = np.empty((BATCH, rows.shape[1]), dtype=rows.dtype)
            self.product = np.empty((rows.shape[1],) * 2, dtype=rows.dtype, order="F")
        return self.deviations[: len(rows)]


@final
class _Summing:
    """Sums over rows as they come, one full batch at a time."""

    def __init__(self, classes: int, scratch: _Scratch) -> None:
        self.counts = np.zeros(max(classes, 1), dtype=np.int64)
        self.scratch = scratch
        self.rows = np.empty((0, 0), dtype=np.float32)  # of which the first wait to be summed
        self.labels = np.empty(BATCH, dtype=np.int64)
        self.waiting = 0

    def add(
        self, features: Float[np.ndarray, "rows dim"], labels: Int64[np.ndarray, " rows"]
    ) -> None:
        """Take sound rows; sums up whenever a batch is full."""
        dtype = np.float64 if features.dtype == np.float64 else np.float32
        if self.rows.dtype != dtype or self.rows.shape[1] != features.shape[1]:
            self._sum_up()
            self.rows = np.empty((BATCH, features.shape[1]), dtype=dtype)
        while len(features):
            taken = min(len(features), BATCH - self.waiting)
            room = slice(self.waiting, self.waiting + taken)
            self.rows[room], self.labels[room] = features[:taken], labels[:taken]
            self.waiting += taken
            features, labels = features[taken:], labels[taken:]
            if self.waiting == BATCH:
                self._sum_up()

    def finish(self, nothing: str) -> Moments:
        """Sum up what is left; ``ProjectionError`` saying ``nothing`` if there was no row."""
        self._sum_up()
        if not self.counts.any():
            raise ProjectionError(nothing)
        with np.errstate(over="ignore", invalid="ignore"):
            shifts = self.sums / np.maximum(self.counts, 1)[:, None]
            weighted = np.sqrt(self.counts)[:, None] * shifts
        within = blas.dsyrk(-1.0, weighted.T, beta=1.0, c=self.scatter, overwrite_c=1)
        _mirror_upper(within)
        if not np.isfinite(within).all():
            raise ProjectionError("features are too large: their squares overflow; scale them down")
        return Moments(counts=self.counts, means=self.centres + shifts, within=within)

    def _sum_up(self) -> None:
        if not self.waiting:
            return
        rows, labels = self.rows[: self.waiting], self.labels[: self.waiting]
        self.waiting = 0
        classes, dim = len(self.counts), rows.shape[1]
        if not self.counts.any():
            self.centres = np.zeros((classes, dim), dtype=np.float32)
            self.sums = np.zeros((classes, dim))
            self.scatter = np.zeros((dim, dim), order="F")
        counts = np.bincount(labels, minlength=classes)
        # ones at (class, row): its product with rows adds up each class's, in the order they came
        ones = np.ones(len(rows), dtype=rows.dtype)
        ends = np.concatenate([[0], np.cumsum(counts)])
        grouped = csr_array(
            (ones, np.argsort(labels, kind="stable"), ends), shape=(classes, len(rows))
        )
        deviations = self.scratch.for_rows(rows)
        with np.errstate(over="ignore", invalid="ignore"):  # finish tells of it
            fresh = np.flatnonzero((counts > 0) & (self.counts == 0))
            if len(fresh):
                self.centres[fresh] = (grouped @ rows)[fresh] / counts[fresh, None]
            centres = self.centres.astype(rows.dtype, copy=False)
            np.take(centres, labels, axis=0, out=deviations, mode="clip")  # as they all are valid
            np.subtract(rows, deviations, out=deviations)
            self.sums += grouped @ deviations
            self.scatter += _gram(deviations, self.scratch.product)
        self.counts += counts


def _gram(
    rows: Float[np.ndarray, "rows dim"], into: Float[np.ndarray, "dim dim"]
) -> Float[np.ndarray, "dim dim"]:
    """Upper half of rowsᵀ rows, in column order, in the rows' precision where that suffices."""
    if rows.dtype == np.float32:
        product: np.ndarray = blas.ssyrk(1.0, rows.T, c=into, overwrite_c=1)
        if SAFE[0] < float(product.diagonal().max()) < SAFE[1]:
            return product
    exact: np.ndarray = blas.dsyrk(1.0, rows.T.astype(np.float64, copy=False))
    return exact


def _mirror_upper(square: Float64[np.ndarray, "dim dim"]) -> None:
    """Copy the upper half onto the lower, a tile at a time."""
    for first in range(0, len(square), TILE):
        rows = slice(first, first + TILE)
        corner = np.triu(square[rows, rows])
        square[rows, rows] = corner + np.triu(corner, 1).T
        for second in range(first + TILE, len(square), TILE):
            columns = slice(second, second + TILE)
            square[columns, rows] = square[rows, columns].T
