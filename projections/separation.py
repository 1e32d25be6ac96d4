"""How much of the separation of classes a linear map keeps, in closed form from moments.

Two classes with means d apart and covariance S within them are a Mahalanobis distance
sqrt(dᵀS⁻¹d) apart: it alone decides how often the best linear rule confuses them, if they are
normal. After the map x -> Pᵀx the same distance is found from Pᵀd and PᵀSP; squared, and as a share
of what there was,

    retained = dᵀP (PᵀSP)⁻¹ Pᵀd / dᵀS⁻¹d,

1 if nothing is lost, 0 if the means fall on one another. With S = LLᵀ, whitened means m = L⁻¹ mean
and an orthonormal basis Q of LᵀP, it is |Qᵀ(m_a - m_b)|² / |m_a - m_b|²: distances between points,
for all pairs at once. S is shrunk as for the discriminant map (``shrunk_within``), so
that it has an inverse, and that map to C - 1 dimensions keeps all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.linalg
from jaxtyping import Float, Float64
from scipy.spatial.distance import pdist

from projections.base import ProjectionError
from projections.discriminant import shrunk_within
from projections.moments import Moments

EQUAL = 1e-10  # of the largest distance of a mean from 0: nearer to one another they are equal
DEPENDENT = 1e-10  # of its length: a column that adds less to the others only adds rounding
LOW = 1  # percentile


@final
@dataclass(frozen=True, kw_only=True)
class Separation:
    """Shares of squared Mahalanobis distance that a map keeps, over pairs of classes; in [0, 1]."""

    mean: float
    low: float  # first percentile
    least: float
    pair: tuple[int, int]  # of class numbers: whose share is the least
    closest: float  # smallest Mahalanobis distance of any two classes after the map, not a share


def retained_separation(
    moments: Moments, matrices: Sequence[Float[np.ndarray, "dim _"]]
) -> tuple[Separation, ...]:
    """Separation that each matrix (dim, dim_out) keeps; a row x becomes x @ matrix.

    Only the space that the columns span matters, so scale, rotation and columns that add nothing
    do not. Classes without rows are left out, and pairs whose means are equal. ``ProjectionError``
    where no two classes are apart, and for matrices of another width.
    """
    for number, matrix in enumerate(matrices):
        if matrix.shape[0] != moments.dim or matrix.shape[1] < 1:
            raise ProjectionError(
                f"matrix {number} has shape {matrix.shape}, not {moments.dim} rows as wide as the "
                "moments and at least 1 column"
            )
    present = np.flatnonzero(moments.counts)
    if len(present) < 2:
        raise ProjectionError(
            f"separation is between classes: at least 2 need rows, got {len(present)}"
        )
    lower = scipy.linalg.cholesky(shrunk_within(moments)[0], lower=True)
    whitened = scipy.linalg.solve_triangular(lower, moments.means[present].T, lower=True).T
    furthest = np.linalg.norm(whitened, axis=1).max()
    whitened -= whitened.mean(axis=0)
    before = pdist(whitened, "sqeuclidean")
    apart = before > (EQUAL * furthest) ** 2
    if not apart.any():
        raise ProjectionError("the means of all classes are equal: there is nothing to keep apart")
    first, second = (present[side][apart] for side in np.triu_indices(len(present), k=1))

    def kept(matrix: Float[np.ndarray, "dim _"]) -> Separation:
        after = pdist(_onto(whitened, lower.T @ matrix), "sqeuclidean")[apart]
        shares = np.minimum(after / before[apart], 1.0)
        worst = int(shares.argmin())
        return Separation(
            mean=float(shares.mean()),
            low=float(np.percentile(shares, LOW)),
            least=float(shares[worst]),
            pair=(int(first[worst]), int(second[worst])),
            closest=float(np.sqrt(after.min())),
        )

    return tuple(kept(matrix) for matrix in matrices)


def _onto(
    points: Float64[np.ndarray, "points dim"], columns: Float64[np.ndarray, "dim k"]
) -> Float64[np.ndarray, "points rank"]:
    """Points projected onto what the columns span, in an orthonormal basis of it."""
    lengths = np.linalg.norm(columns, axis=0)
    columns = columns / np.where(lengths > 0, lengths, 1.0)
    if columns.shape[1] <= len(columns):
        projected: Float64[np.ndarray, "points rank"]
        projected, upper = scipy.linalg.qr_multiply(columns, points, mode="right")
        # a column that depends on those before it leaves nothing on the diagonal
        if np.abs(upper.diagonal()).min() > DEPENDENT:
            return projected
    basis, sizes, _ = scipy.linalg.svd(columns, full_matrices=False)
    projected = points @ basis[:, sizes > DEPENDENT * sizes[0]]
    return projected
