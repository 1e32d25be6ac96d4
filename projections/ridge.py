"""Linear heads that moments determine: ridge regression on one-hot labels, nearest class mean.

With x' = (x - mean) / scale, where ``scale`` is the one root-mean-square of all deviations of the
features from their mean, and y the one-hot labels, the ridge head minimises

    mean |W x' + b - y|² + l2 |W|²        (the bias is not penalised)

which is scikit-learn's ``Ridge(alpha=rows * l2)`` on x / scale; mean and scale are folded back, so
that the head reads features as they are stored. A projected space needs no features either: its
moments are Pᵀ S P.
"""

import numpy as np
import scipy.linalg
from jaxtyping import Float, Float32, Float64

from projections.base import Projection, ProjectionError
from projections.moments import Moments

NEVER = -1e30  # bias of a class without rows: finite, and no row comes to lie nearest to it

Head = tuple[Float32[np.ndarray, "classes dim"], Float32[np.ndarray, " classes"]]


def ridge_head(moments: Moments, l2: float, *, projection: Projection | None = None) -> Head:
    """Weight and bias of the ridge head of the features, or of their image under ``projection``.

    A class without rows has zeros and is never the largest. ``ProjectionError`` for ``l2`` not
    above 0, and for features that do not vary.
    """
    if not l2 > 0:
        raise ProjectionError(f"l2 must be above 0, got {l2}")
    mean, means, covariance = _seen_through(moments, projection)
    shares = moments.counts / moments.rows
    together = shares[:, None] * (means - mean)  # covariance of one-hot labels and features
    level = float(np.trace(covariance)) / len(mean)
    if level <= 0:
        raise ProjectionError(f"the {moments.rows} rows are all equal: no head can tell them apart")
    penalised = covariance + l2 * level * np.eye(len(mean))
    weight = scipy.linalg.solve(penalised, together.T, assume_a="pos").T
    return weight.astype(np.float32), (shares - weight @ mean).astype(np.float32)


def nearest_mean_head(moments: Moments, *, projection: Projection | None = None) -> Head:
    """Weight and bias whose largest logit is that of the nearest class mean.

    -|x - m_c|² / 2 less what all classes share is (m_c - m)(x - m) - |m_c - m|² / 2.
    """
    mean, means, _ = _seen_through(moments, projection)
    apart = np.where(moments.counts[:, None] > 0, means - mean, 0.0)
    bias = -0.5 * np.einsum("ij,ij->i", apart, apart) - apart @ mean
    bias[moments.counts == 0] = NEVER
    return apart.astype(np.float32), bias.astype(np.float32)


def _seen_through(
    moments: Moments, projection: Projection | None
) -> tuple[
    Float64[np.ndarray, " dim"], Float64[np.ndarray, "classes dim"], Float64[np.ndarray, "dim dim"]
]:
    """Mean, class means and covariance of what a map makes of the rows."""
    mean, means, covariance = moments.mean, moments.means, moments.covariance
    if projection is None:
        return mean, means, covariance
    matrix = projection.matrix.astype(np.float64)
    offset: Float[np.ndarray, " dim"] = getattr(projection, "mean", np.zeros(moments.dim))
    return (mean - offset) @ matrix, (means - offset) @ matrix, matrix.T @ covariance @ matrix
