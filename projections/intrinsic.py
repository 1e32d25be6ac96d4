"""Intrinsic dimension: what surface rows lie on, from the distances to their neighbours.

On a surface of dimension d and locally constant density the share of points within a distance r
grows as r^d, whatever the width of the rows and however the surface is bent. From it follow

    TwoNN           mu = r2 / r1 has the distribution F(mu) = 1 - mu^-d: d is the slope of
                    -log(1 - F) against log(mu), a line through the origin
    Levina-Bickel   1 / d is the mean over rows of  1/(k-1) sum_{j<k} log(r_k / r_j)

with r_j the distance to the j-th neighbour (Facco et al., 2017, doi:10.1038/s41598-017-11873-y;
Levina & Bickel, 2004, equation 8, averaged over rows as MacKay & Ghahramani proposed in 2005, by
inverses: the mean of the estimates themselves is biased upwards). Both answer at the scale of the
neighbours: few rows lie far apart, so a sample tells of a coarser scale than all rows would. Both
fall short in many dimensions, where hardly a row is far from the edge.

Rows that are equal to another say nothing (zero has no logarithm) and are counted once.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Float64
from sklearn.neighbors import NearestNeighbors

from projections.base import ProjectionError

NEIGHBOURS = 20
DISCARD = 0.1
EQUAL = 1e-9  # logarithms of ratios below this are rounding: no data has a billion dimensions
SAMPLE = 10_000  # distances between all pairs of so many rows of 512: 2 s on one core


@final
@dataclass(frozen=True, kw_only=True)
class IntrinsicDimension:
    """Both estimates, from one search."""

    two_nn: float
    levina_bickel: float
    rows: int  # different rows they were made from
    duplicates: int  # rows of the sample that are equal to one of these


def intrinsic_dimension(
    features: Float[np.ndarray, "rows dim"],
    *,
    k: int = NEIGHBOURS,
    discard: float = DISCARD,
    sample: int = SAMPLE,
    seed: int = 0,
) -> IntrinsicDimension:
    """``two_nn`` and ``levina_bickel`` of the same rows, from one search for neighbours."""
    _check_k(k)
    _check_discard(discard)
    distances, duplicates = _distances(features, k=k, sample=sample, seed=seed)
    return IntrinsicDimension(
        two_nn=_slope(distances, discard),
        levina_bickel=_inverse_mean(distances),
        rows=len(distances),
        duplicates=duplicates,
    )


def two_nn(
    features: Float[np.ndarray, "rows dim"],
    *,
    discard: float = DISCARD,
    sample: int = SAMPLE,
    seed: int = 0,
) -> float:
    """Facco's estimate; the share ``discard`` of rows with the largest ratios is left out.

    More than ``sample`` rows are thinned to so many by ``seed``. ``ProjectionError`` for NaN or
    infinity, fewer than 3 different rows, or neighbours all equally far (a lattice).
    """
    _check_discard(discard)
    return _slope(_distances(features, k=2, sample=sample, seed=seed)[0], discard)


def levina_bickel(
    features: Float[np.ndarray, "rows dim"],
    *,
    k: int = NEIGHBOURS,
    sample: int = SAMPLE,
    seed: int = 0,
) -> float:
    """Levina and Bickel's estimate from ``k`` >= 2 neighbours: scikit-dimension's ``MLE``.

    More than ``sample`` rows are thinned to so many by ``seed``. ``ProjectionError`` for NaN or
    infinity, at most ``k`` different rows, or neighbours all equally far.
    """
    _check_k(k)
    return _inverse_mean(_distances(features, k=k, sample=sample, seed=seed)[0])


def _distances(
    features: Float[np.ndarray, "rows dim"], *, k: int, sample: int, seed: int
) -> tuple[Float64[np.ndarray, "points k"], int]:
    """Distances to the ``k`` nearest other points, rising and exact; rows that were duplicates."""
    chosen = np.arange(len(features))
    if len(features) > sample:
        drawn = np.random.default_rng(seed).choice(len(features), sample, replace=False)
        chosen = np.sort(drawn)
    features = features[chosen]
    bad = chosen[~np.isfinite(features).all(axis=1)]
    if len(bad):
        raise ProjectionError(f"row {bad[0]} holds NaN or infinity: leave such rows out")
    points = _different(features).astype(np.float64)
    if len(points) <= k:
        raise ProjectionError(
            f"{k} neighbours need at least {k + 1} rows that differ, got {len(points)}: "
            "give more rows or ask for fewer neighbours"
        )
    points -= points.mean(axis=0)  # products of rows far from the origin drown their differences
    distances, _ = NearestNeighbors(n_neighbors=k).fit(points).kneighbors()
    return distances, len(features) - len(points)


def _different(
    features: Float[np.ndarray, "rows dim"],
) -> Float[np.ndarray, "points dim"]:
    """Each row once, in the order of their first appearance."""
    rows = np.ascontiguousarray(features + features.dtype.type(0))  # -0.0 becomes 0.0: equal bytes
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))
    _, first = np.unique(keys, return_index=True)
    return rows[np.sort(first)]


def _slope(distances: Float64[np.ndarray, "points k"], discard: float) -> float:
    logs = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    points = len(logs)
    kept = int(points * (1 - discard))
    if kept < 1 or logs[kept - 1] < EQUAL:
        raise ProjectionError(
            f"the first two neighbours of {kept} of {points} rows are equally far: rows on a "
            "lattice or in symmetric places have no dimension to measure"
        )
    height = -np.log1p(-np.arange(1, kept + 1) / points)
    return float(logs[:kept] @ height / (logs[:kept] @ logs[:kept]))


def _inverse_mean(distances: Float64[np.ndarray, "points k"]) -> float:
    k = distances.shape[1]
    inverse = float(np.log(distances[:, -1:] / distances[:, :-1]).sum(axis=1).mean()) / (k - 1)
    if inverse < EQUAL:
        raise ProjectionError(
            f"all {k} neighbours of every row are equally far: rows on a lattice or in symmetric "
            "places have no dimension to measure"
        )
    return float(1 / inverse)


def _check_k(k: int) -> None:
    if k < 2:
        raise ProjectionError(f"k must be at least 2 neighbours, got {k}")


def _check_discard(discard: float) -> None:
    if not 0 < discard < 1:
        raise ProjectionError(f"discard must lie strictly between 0 and 1, got {discard}")
