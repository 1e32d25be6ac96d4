"""Fisher's discriminant directions, with a shrunk within-class covariance, from moments.

Numbers P'x that keep the class means furthest apart in units of the spread within the classes:
the columns of P are the leading solutions of

    S_b p = l S_w p,    PᵀS_wP = I,

S_b the covariance of the class means, weighted by their rows, S_w that within the classes, shrunk
towards a multiple of the identity:

    S_w <- (1 - s) S_w + s m I,    m = tr(S_w) / d.

The share s is what the oracle approximating shrinkage (OAS: Chen, Wiesel, Eldar & Hero, 2010,
doi:10.1109/TSP.2010.2053029) asks of each class's own covariance, as scikit-learn's discriminant
analysis shrinks class by class, on average over rows. All rows together would need far less for a
covariance as near as can be, but the directions are then those of its smallest, least certain
variances: with 30 rows a class they lose 4 points at C/2 directions (measured on real features).

There are C - 1 of them. Further columns are the principal directions of what is left of S_w when
the discriminants are known, likewise of unit variance: they say nothing of the class means.
"""

from typing import ClassVar, final

import numpy as np
import scipy.linalg
from jaxtyping import Float64

from projections.eigen import oriented, residual_directions
from projections.fitted import MomentsProjection, Solution
from projections.moments import Moments

FLOOR = 1e-6  # of the largest ratio's root: means nearer to a plane than this lie in it
MOST = 0.999  # of the identity: wholly shrunk, nothing tells one direction to fill up with first
ROUNDING = 1e-7  # of the largest eigenvalue: no smaller one is known from float32 products
COLLAPSED = 1e-14  # of the variance between the classes: the square of float32's resolution


def oas_shrinkage(covariance: Float64[np.ndarray, "dim dim"], rows: int) -> float:
    """Share of the identity that the estimate asks for; in [0, 1], 1 for a multiple of it.

    scikit-learn's ``OAS`` on centred rows: with a = |S|² / d² and m = tr(S) / d it is
    min(1, (a + m²) / ((rows + 1) (a - m² / d))).
    """
    return _oas(_unevenness(covariance), len(covariance), rows)


def class_shrinkage(moments: Moments) -> float:
    """What OAS asks of each class's own covariance, on average over rows; in [0, 1].

    Of n rows a covariance S has, in expectation, |S|² = |Σ|² + (|Σ|² + tr(Σ)²) / n. Undone for all
    rows, and done for those of one class, it tells |S|² of a class whose covariance nobody kept.
    """
    seen = _unevenness(moments.within_covariance)
    true = max(1 / moments.dim, (seen * moments.rows - 1) / (moments.rows + 1))
    counts = moments.counts[moments.counts > 0]
    shares = [_oas(true + (true + 1) / rows, moments.dim, int(rows)) for rows in counts]
    return float(np.average(shares, weights=counts))


def _unevenness(covariance: Float64[np.ndarray, "dim dim"]) -> float:
    """|S|² / tr(S)²: from 1 / d for a multiple of the identity, to 1 for a single direction."""
    trace = float(np.trace(covariance))
    scaled = covariance / (trace or 1.0)  # keeps squares of squares in range
    return float(np.vdot(scaled, scaled))


def _oas(unevenness: float, dim: int, rows: int) -> float:
    above = (rows + 1) * (unevenness - 1 / dim)
    return 1.0 if above <= 0.0 else min(1.0, (unevenness + 1) / above)


def shrunk_within(moments: Moments) -> tuple[Float64[np.ndarray, "dim dim"], float]:
    """Within-class covariance shrunk so that it has an inverse, and the share of the identity.

    Where rows do not vary within their classes, to float32 rounding, it is the identity itself.
    """
    within = moments.within_covariance
    level = float(np.trace(within)) / moments.dim
    apart = float(moments.counts @ np.square(moments.means - moments.mean).sum(axis=1))
    if level <= COLLAPSED * apart / (moments.rows * moments.dim):
        return np.eye(moments.dim), 1.0
    share = min(MOST, class_shrinkage(moments))
    # never wholly without: of very many rows with collinear features hardly any share is asked
    # for, and float32 products leave eigenvalues below zero
    least = ROUNDING * float(np.linalg.norm(within))
    return (1 - share) * within + max(share * level, least) * np.eye(moments.dim), share


@final
class DiscriminantProjection(MomentsProjection):
    """Discriminant directions, those beyond C - 1 filled up from within the classes.

    The shrunk covariance within the classes is the identity in the numbers it makes, so that all
    are equally noisy. ``strengths_`` are the ratios of variance between to within, zero for what
    fills up.
    """

    kind: ClassVar[str] = "discriminant"
    algorithm: ClassVar[int] = 2  # 1 shrank as all rows together ask for
    supervised: ClassVar[bool] = True

    def _allowed(self, moments: Moments) -> int:
        return int(np.count_nonzero(moments.counts)) - 1

    def _solve(self, moments: Moments, dim_out: int) -> Solution:
        within, share = shrunk_within(moments)
        lower = scipy.linalg.cholesky(within, lower=True)
        apart = np.sqrt(moments.counts / moments.rows)[:, None] * (moments.means - moments.mean)
        apart = apart[moments.counts > 0]
        whitened = scipy.linalg.solve_triangular(lower, apart.T, lower=True)
        directions, roots, _ = scipy.linalg.svd(whitened, full_matrices=False)
        rank = min(len(apart) - 1, int((roots > FLOOR * roots[0]).sum()))
        found = scipy.linalg.solve_triangular(lower.T, directions[:, :rank], lower=False)
        matrix, strengths = oriented(found)[:, :dim_out], roots[:rank][:dim_out] ** 2
        filling = dim_out - matrix.shape[1]
        if filling:
            variances, left = residual_directions(within, matrix, filling)
            matrix = np.hstack([matrix, left / np.sqrt(variances)])
            strengths = np.concatenate([strengths, np.zeros(filling)])
        return Solution(matrix=matrix, strengths=strengths, rank=rank, facts={"shrinkage": share})
