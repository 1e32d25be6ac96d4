"""How many dimensions the data itself uses: effective ranks of its rows and of its covariance.

With l the eigenvalues of a covariance and s = sqrt(l) the singular values of the rows,

    participation ratio   (sum of l)² / (sum of l²)
    effective rank        exp(-sum of p log p),  p = s / (sum of s)

(Roy & Vetterli, 2007, "The effective rank"). Both are 1 when all variation lies on a line and d
when it is equal in all d directions. The root gives small directions far more weight: the
participation ratio tells in how many most of the variance lies, the effective rank also counts
those that hardly vary. RankMe (Garrido et al., 2023, arXiv:2210.02885) is the effective rank of
the rows as they are, their mean not taken off: a mean far from the origin counts as a direction.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64

from projections.base import ProjectionError

BLOCK = 4096  # rows in float64 at a time
# A covariance has no negative eigenvalues: how far they fall below zero is how large rounding is.
# In Moments of float32 rows that is 1e-8 of the largest, and a thousand directions of rounding
# would count as another two; beyond this share the matrix is no covariance at all.
ROUNDING = 1e-5


def participation_ratio(features: Float[np.ndarray, "rows dim"]) -> float:
    """(sum of l)² / (sum of l²) over the eigenvalues l of the covariance; in [1, min(rows - 1, d)].

    1 when all variation lies on a line, d when it is equal in all directions. Computed in float64
    without eigenvalues, as tr(C)² / tr(C²). Rows that do not vary raise ``ProjectionError``.
    """
    if len(features) < 2:
        raise ProjectionError(f"a participation ratio needs at least 2 rows, got {len(features)}")
    scatter = _scatter(features, features.mean(axis=0, dtype=np.float64))
    if not scatter.any():
        raise ProjectionError("a participation ratio needs rows that differ: these are all equal")
    return covariance_participation_ratio(scatter)


def covariance_participation_ratio(covariance: Float64[np.ndarray, "dim dim"]) -> float:
    """``participation_ratio`` of rows with this covariance; zeros raise ``ProjectionError``."""
    trace = _trace(covariance)
    scaled = covariance / trace
    return float(1 / np.sum(scaled * scaled))


def rankme(features: Float[np.ndarray, "rows dim"]) -> float:
    """Exponential of the entropy of the rows' normalised singular values; in [1, min(rows, d)].

    In float64. The published 1e-7 that is added to every p is left out: a p of zero adds nothing.
    Rows that are all zero raise ``ProjectionError``.
    """
    if not features.any():
        raise ProjectionError("RankMe needs rows that are not all zero")
    return effective_rank(_scatter(features, np.zeros(features.shape[1])))


def effective_rank(covariance: Float64[np.ndarray, "dim dim"]) -> float:
    """Exponential of the entropy of the normalised roots of the eigenvalues; in [1, rank].

    Of a covariance, Roy and Vetterli's effective rank of the centred rows; with the outer product
    of their mean added to it, RankMe. Eigenvalues within twice the size of the most negative one
    are rounding and count as zero. ``ProjectionError`` for zeros and for what is no covariance.
    """
    values = np.linalg.eigvalsh(covariance / _trace(covariance))
    if values[0] < -ROUNDING * values[-1]:
        raise ProjectionError(
            f"no covariance: its smallest eigenvalue is {values[0] / values[-1]:.1e} of its largest"
        )
    roots = np.sqrt(values[values > max(0.0, -2 * float(values[0]))])
    shares = roots / roots.sum()
    return float(np.exp(-shares @ np.log(shares)))


def _scatter(
    features: Float[np.ndarray, "rows dim"], centre: Float64[np.ndarray, " dim"]
) -> Float64[np.ndarray, "dim dim"]:
    """Sum of (x - centre)(x - centre)ᵀ, but for a factor; zeros where all rows are the centre."""
    dim = features.shape[1]
    # scaled by the widest entry: squares of squares neither overflow nor vanish
    size = max(float(np.abs(block).max()) for block in _centred(features, centre))
    scatter = np.zeros((dim, dim))
    if size > 0.0:
        for block in _centred(features, centre):
            scaled = block / size
            scatter += scaled.T @ scaled
    return scatter


def _centred(
    features: Float[np.ndarray, "rows dim"], centre: Float64[np.ndarray, " dim"]
) -> Iterator[Float64[np.ndarray, "block dim"]]:
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK].astype(np.float64) - centre


def _trace(covariance: Float64[np.ndarray, "dim dim"]) -> float:
    trace = float(np.trace(covariance))
    if not 0 < trace < np.inf:
        raise ProjectionError(
            f"no covariance of rows that differ: its trace is {trace:g}, not positive and finite"
        )
    return trace
