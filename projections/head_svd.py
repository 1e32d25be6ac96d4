"""The trained full head, truncated in the features' own metric: the trivial baseline.

Of logits z = W x + b only differences between classes count, so W is W less its mean over the
classes. The best guess of z of rank k, in mean square over rows of covariance S, keeps the k
leading left singular vectors of W S^½ = U s Vᵀ: z = U_k U_kᵀ W x. So the k numbers are
U_kᵀ W (x - mean), which is s_k V_kᵀ S^-½ (x - mean), their variances are s_k², and the linear
head U_k on them gives back the logits, exactly from k = C - 1 on (the projection theorem of Eckart
& Young, 1936, doi:10.1007/BF02288367; as data-aware truncation: Wang et al., 2024,
arXiv:2403.07378). s and U come from W S Wᵀ = U s² Uᵀ: S is never inverted.

Columns beyond that are the principal directions of what the logits leave unexplained, all scaled
by one number so that the first varies as the last of the logits' does.
"""

from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float, Float64

from projections.base import ProjectionError
from projections.eigen import leading_eigen, oriented, residual_directions
from projections.fitted import MomentsProjection, OfMoments, Solution
from projections.moments import Moments
from projections.ridge import ridge_head

FLOOR = 1e-5  # of the largest singular value: below it lies the rounding of a float32 head


def head_solution(
    moments: Moments, weight: Float[np.ndarray, "classes dim"], dim_out: int
) -> Solution:
    """Truncate a head of weight (classes, dim). Classes without rows do not count."""
    check_head(moments, weight)
    seen = weight[moments.counts > 0].astype(np.float64)
    return truncated(moments.covariance, seen - seen.mean(axis=0), dim_out)


def check_head(moments: Moments, weight: Float[np.ndarray, "classes dim"]) -> None:
    """Raise ``ProjectionError`` for a weight that does not belong to the moments."""
    if weight.shape != moments.means.shape:
        raise ProjectionError(
            f"the head has weights of shape {weight.shape}, but the moments are of "
            f"{moments.classes} classes and width {moments.dim}: train the head on the same data"
        )
    if not np.isfinite(weight).all():
        raise ProjectionError("the head's weights are not finite: train it again")


def truncated(
    covariance: Float64[np.ndarray, "dim dim"],
    seen: Float64[np.ndarray, "outputs dim"],
    dim_out: int,
) -> Solution:
    """The numbers that give back most of ``seen`` @ x, outputs whose rows sum to zero, filled up.

    They are at most one fewer than the outputs.
    """
    squares, mixing = leading_eigen(seen @ covariance @ seen.T, len(seen))
    rank = min(len(seen) - 1, int((squares > FLOOR**2 * squares[0]).sum()))
    matrix, strengths = oriented(seen.T @ mixing[:, :rank])[:, :dim_out], squares[:rank][:dim_out]
    filling = dim_out - matrix.shape[1]
    if filling:
        variances, left = residual_directions(covariance, matrix, filling)
        scale = np.sqrt(squares[rank - 1] / variances[0]) if rank and variances[0] else 1.0
        matrix = np.hstack([matrix, left * scale])
        strengths = np.concatenate([strengths, np.zeros(filling)])
    return Solution(matrix=matrix, strengths=strengths, rank=rank, facts={})


@final
class HeadSVDProjection(MomentsProjection):
    """The k numbers from which a linear head gives back most of the full head's logits.

    ``strengths_`` are the variances of the logits along each, zero for what fills up beyond the
    head's rank. Fitted on rows alone, the head is the ridge head of the moments at ``l2``.
    """

    kind: ClassVar[str] = "head-svd"
    supervised: ClassVar[bool] = True
    l2: float

    def __init__(self, n_components: Any = None, *, l2: Any = 1e-3) -> None:
        super().__init__(n_components)
        self.l2 = l2

    def fit_head(
        self: OfMoments, moments: Moments, weight: Float[np.ndarray, "classes dim"]
    ) -> OfMoments:
        """Fit on a trained head's weight and the moments of the rows it was trained on."""
        self._keep(moments.mean, head_solution(moments, weight, self._width(moments)))
        return self

    def _allowed(self, moments: Moments) -> int:
        return int(np.count_nonzero(moments.counts)) - 1

    def _solve(self, moments: Moments, dim_out: int) -> Solution:
        return head_solution(moments, ridge_head(moments, self.l2)[0], dim_out)
