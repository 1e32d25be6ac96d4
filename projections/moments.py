"""Moments of rows: counts, class means and the scatter within the classes, gathered in one pass.

They are all that a data-aware map or a ridge head asks of the data. With m_c the mean of class c,
m that of all rows and n_c the rows of c,

    within = sum over c, x in c of (x - m_c)(x - m_c)ᵀ
    total  = within + sum over c of n_c (m_c - m)(m_c - m)ᵀ.

Rows are taken relative to a fixed centre a_c near their class mean, the mean of the class's rows
in the batch in which it is first met; then sum (x - m_c)(x - m_c)ᵀ is sum (x - a_c)(x - a_c)ᵀ
- n_c (m_c - a_c)(m_c - a_c)ᵀ, from which little cancels, however far the rows lie from the origin
and the classes from one another. Moments of parts are pooled by the exact formula (both: Chan,
Golub & LeVeque, 1983, doi:10.1080/00031305.1983.10483115).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float64, Int64, Real
from scipy.linalg import blas
from scipy.sparse import csr_array

from projections.base import ProjectionError

BATCH = 2048  # rows in one product: its float32 rounding stays below 1e-6, adding it costs 4 %
SAFE = (1e-28, 1e32)  # squares outside are taken in float64: float32 would lose them

Block = tuple[Float[np.ndarray, "rows dim"], Int64[np.ndarray, " rows"] | None]
FoldBlock = tuple[
    Float[np.ndarray, "rows dim"], Int64[np.ndarray, " rows"] | None, Int64[np.ndarray, " rows"]
]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Counts, means and scatter of rows in classes; unlabelled rows are one class."""

    counts: Int64[np.ndarray, " classes"]
    means: Float64[np.ndarray, "classes dim"]  # zeros for a class without rows
    within: Float64[np.ndarray, "dim dim"]  # a sum over rows, not divided

    @property
    def rows(self) -> int:
        """How many rows there were, at least 1."""
        return int(self.counts.sum())

    @property
    def classes(self) -> int:
        """How many classes there could be, those without rows too."""
        return len(self.counts)

    @property
    def dim(self) -> int:
        """Width of the rows."""
        return int(self.means.shape[1])

    @property
    def labelled(self) -> bool:
        """Whether there is more than one class."""
        return self.classes > 1

    @property
    def mean(self) -> Float64[np.ndarray, " dim"]:
        """Mean of all rows."""
        mean: Float64[np.ndarray, " dim"] = (self.counts / self.rows) @ self.means
        return mean

    @property
    def covariance(self) -> Float64[np.ndarray, "dim dim"]:
        """Total scatter over rows: computed anew on each use."""
        total: Float64[np.ndarray, "dim dim"] = self.within_covariance + self.between_covariance
        return total

    @property
    def within_covariance(self) -> Float64[np.ndarray, "dim dim"]:
        """Scatter about the class means over rows."""
        return self.within / self.rows

    @property
    def between_covariance(self) -> Float64[np.ndarray, "dim dim"]:
        """Scatter of the class means about the mean, weighted by their rows, over rows."""
        return _scatter(self.means - self.mean, self.counts / self.rows)

    def merge(self, other: "Moments") -> "Moments":
        """Pool with the moments of other rows; ``ProjectionError`` for other widths or classes."""
        self._check_alike(other)
        counts = self.counts + other.counts
        share = other.counts / np.maximum(counts, 1)
        apart = other.means - self.means
        apart[(self.counts == 0) | (other.counts == 0)] = 0.0
        means = self.means + share[:, None] * apart
        means[self.counts == 0] = other.means[self.counts == 0]
        within = self.within + other.within + _scatter(apart, self.counts * share)
        return Moments(counts=counts, means=means, within=within)

    def without(self, part: "Moments") -> "Moments":
        """Moments of the rest, when ``part`` was merged in: the reverse of ``merge``.

        ``ProjectionError`` where the part has more rows of a class than the whole, or all rows.
        """
        self._check_alike(part)
        counts = self.counts - part.counts
        if (counts < 0).any():
            at = int(np.argmax(counts < 0))
            raise ProjectionError(
                f"the part has {part.counts[at]} rows of class {at} and the whole {self.counts[at]}"
                ": take away only what was merged in"
            )
        if not counts.any():
            raise ProjectionError(f"nothing is left when all {self.rows} rows are taken away")
        share = part.counts / np.maximum(counts, 1)
        apart = self.means - part.means
        apart[(counts == 0) | (part.counts == 0)] = 0.0
        means = self.means + share[:, None] * apart
        means[counts == 0] = 0.0
        # the rest and the part lie apart / (share of the rest in the whole) from one another
        within = self.within - part.within - _scatter(apart, self.counts * share)
        return Moments(counts=counts, means=means, within=within)

    def _check_alike(self, other: "Moments") -> None:
        if other.means.shape != self.means.shape:
            raise ProjectionError(
                f"moments of {other.classes} classes and width {other.dim} do not go with those of "
                f"{self.classes} classes and width {self.dim}"
            )


def gather_moments(blocks: Iterable[Block], *, classes: int = 0) -> Moments:
    """Moments of all rows in one pass over (features, labels).

    Labels are None for unlabelled rows, which are one class, and else lie in [0, ``classes``).
    The result does not depend on how the rows are cut into blocks, bit for bit. Products of
    float32 (and float16) rows are float32, their sums float64: each entry of ``within`` is off by
    less than 1e-5 of the geometric mean of its two diagonal entries. float64 rows are multiplied
    in float64. Rows that are not finite, labels out of range, blocks of several widths and no
    rows at all raise ``ProjectionError``.
    """
    seen, whole = _Checking(classes), _Summing(classes)
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
    seen, parts = _Checking(classes), [_Summing(classes) for _ in range(folds)]
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
            sound = np.isfinite(features.sum(dtype=np.float64))
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
class _Summing:
    """Sums over rows as they come, one full batch at a time."""

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros(max(classes, 1), dtype=np.int64)
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.queued = 0

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Take sound rows; sums up whenever a batch is full."""
        if features.dtype != np.float64:
            features = features.astype(np.float32, copy=False)
        while len(features):
            room = BATCH - self.queued
            self.waiting.append((features[:room], labels[:room]))
            self.queued += len(features[:room])
            features, labels = features[room:], labels[room:]
            if self.queued == BATCH:
                self._sum_up()

    def finish(self, nothing: str) -> Moments:
        """Sum up what is left; ``ProjectionError`` saying ``nothing`` if there was no row."""
        if self.queued:
            self._sum_up()
        if not self.counts.any():
            raise ProjectionError(nothing)
        with np.errstate(over="ignore", invalid="ignore"):
            shifts = self.sums / np.maximum(self.counts, 1)[:, None]
            upper = np.triu(self.scatter)  # the only half that was summed
            within = upper + np.triu(upper, 1).T - _scatter(shifts, self.counts)
        if not np.isfinite(within).all():
            raise ProjectionError("features are too large: their squares overflow; scale them down")
        return Moments(counts=self.counts, means=self.centres + shifts, within=within)

    def _sum_up(self) -> None:
        pieces, codes = zip(*self.waiting, strict=True)
        rows = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        labels = codes[0] if len(codes) == 1 else np.concatenate(codes)
        self.waiting, self.queued = [], 0
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
        with np.errstate(over="ignore", invalid="ignore"):  # finish tells of it
            fresh = np.flatnonzero((counts > 0) & (self.counts == 0))
            if len(fresh):
                self.centres[fresh] = (grouped @ rows)[fresh] / counts[fresh, None]
            deviations = rows - self.centres[labels]
            self.sums += grouped @ deviations
            self.scatter += _gram(deviations)
        self.counts += counts


def _gram(rows: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "dim dim"]:
    """Upper half of rowsᵀ rows, in column order, in the rows' precision where that suffices."""
    if rows.dtype == np.float32:
        product = blas.ssyrk(1.0, rows.T)
        if SAFE[0] < float(product.diagonal().max()) < SAFE[1]:
            return product
    return blas.dsyrk(1.0, rows.T.astype(np.float64, copy=False))


def _scatter(
    rows: Float64[np.ndarray, "rows dim"], weights: Real[np.ndarray, " rows"]
) -> Float64[np.ndarray, "dim dim"]:
    """Sum of weight x xᵀ; a product with its own transpose is symmetric to the last bit."""
    weighted = np.sqrt(weights)[:, None] * rows
    scatter: Float64[np.ndarray, "dim dim"] = weighted.T @ weighted
    return scatter
