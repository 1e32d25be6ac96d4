"""How many dimensions the data itself uses: the participation ratio of its covariance."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64

from projections.base import ProjectionError

BLOCK = 4096  # rows in float64 at a time


def participation_ratio(features: Float[np.ndarray, "rows dim"]) -> float:
    """(sum of l)² / (sum of l²) over the eigenvalues l of the covariance; in [1, min(rows - 1, d)].

    1 when all variation lies on a line, d when it is equal in all directions. Computed in float64
    without eigenvalues, as tr(C)² / tr(C²). Rows that do not vary raise ``ProjectionError``.
    """
    rows, dim = features.shape
    if rows < 2:
        raise ProjectionError(f"a participation ratio needs at least 2 rows, got {rows}")
    centre = features.mean(axis=0, dtype=np.float64)
    # scaled by the widest entry: squares of squares neither overflow nor vanish
    size = max(float(np.abs(block).max()) for block in _centred(features, centre))
    if size == 0.0:
        raise ProjectionError("a participation ratio needs rows that differ: these are all equal")
    scatter = np.zeros((dim, dim))
    for block in _centred(features, centre):
        scaled = block / size
        scatter += scaled.T @ scaled
    return float(np.trace(scatter) ** 2 / np.sum(scatter * scatter))


def _centred(
    features: Float[np.ndarray, "rows dim"], centre: Float64[np.ndarray, " dim"]
) -> Iterator[Float64[np.ndarray, "block dim"]]:
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK].astype(np.float64) - centre
