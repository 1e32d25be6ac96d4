"""Moments of rows: counts, class means and the scatter within the classes.

They are all that a data-aware map or a ridge head asks of the data. With m_c the mean of class c,
m that of all rows and n_c the rows of c,

    within = sum over c, x in c of (x - m_c)(x - m_c)ᵀ
    total  = within + sum over c of n_c (m_c - m)(m_c - m)ᵀ.

Moments of parts are pooled, and taken away again, by the exact formula (Chan, Golub & LeVeque,
1983, doi:10.1080/00031305.1983.10483115). ``gathering`` finds them of rows.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64, Real

from projections.base import ProjectionError


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
        return scatter_of(self.means - self.mean, self.counts / self.rows)

    def merge(self, other: "Moments") -> "Moments":
        """Pool with the moments of other rows; ``ProjectionError`` for other widths or classes."""
        self._check_alike(other)
        counts = self.counts + other.counts
        share = other.counts / np.maximum(counts, 1)
        apart = other.means - self.means
        apart[(self.counts == 0) | (other.counts == 0)] = 0.0
        means = self.means + share[:, None] * apart
        means[self.counts == 0] = other.means[self.counts == 0]
        within = self.within + other.within + scatter_of(apart, self.counts * share)
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
        within = self.within - part.within - scatter_of(apart, self.counts * share)
        return Moments(counts=counts, means=means, within=within)

    def _check_alike(self, other: "Moments") -> None:
        if other.means.shape != self.means.shape:
            raise ProjectionError(
                f"moments of {other.classes} classes and width {other.dim} do not go with those of "
                f"{self.classes} classes and width {self.dim}"
            )


def scatter_of(
    rows: Float64[np.ndarray, "rows dim"], weights: Real[np.ndarray, " rows"]
) -> Float64[np.ndarray, "dim dim"]:
    """Sum of weight x xᵀ; a product with its own transpose is symmetric to the last bit."""
    weighted = np.sqrt(weights)[:, None] * rows
    scatter: Float64[np.ndarray, "dim dim"] = weighted.T @ weighted
    return scatter
