"""Principal directions: the leading eigenvectors of the covariance, from its moments alone.

Of all orthonormal maps to k dimensions this one keeps most of the variance, and rows rebuilt from
it are nearest to the original in squared distance (Eckart & Young, 1936, doi:10.1007/BF02288367).
Whitened, each direction is divided by the standard deviation along it.
"""

from typing import Any, ClassVar, final

import numpy as np

from projections.eigen import leading_eigen
from projections.fitted import MomentsProjection, Solution
from projections.moments import Moments

FLOOR = 1e-7  # of the largest variance: below it lies the rounding of float32 rows


@final
class PCAProjection(MomentsProjection):
    """Orthonormal principal directions, the largest entry of each positive.

    ``strengths_`` are the variances along them, over rows (scikit-learn divides by rows - 1).
    Where the rows lie in fewer dimensions, the directions beyond are orthonormal ones along which
    nothing varies. ``whiten`` gives each direction unit variance, and those without any the scale
    of the last one that has some.
    """

    kind: ClassVar[str] = "pca"
    supervised: ClassVar[bool] = False
    whiten: bool

    def __init__(self, n_components: Any = None, *, whiten: Any = False) -> None:
        super().__init__(n_components)
        self.whiten = whiten

    def _solve(self, moments: Moments, dim_out: int) -> Solution:
        variances, directions = leading_eigen(moments.covariance, dim_out)
        varies = variances > FLOOR * variances[0]
        if self.whiten and varies.any():
            directions = directions / np.sqrt(np.maximum(variances, variances[varies].min()))
        return Solution(
            matrix=directions,
            strengths=variances,
            rank=int(varies.sum()),
            facts={"whiten": bool(self.whiten)},
        )
