"""Principal directions: the leading eigenvectors of the covariance, from its moments alone.

Of all orthonormal maps to k dimensions this one keeps most of the variance, and rows rebuilt from
it are nearest to the original in squared distance (Eckart & Young, 1936, doi:10.1007/BF02288367).
Whitened, each direction is divided by the standard deviation along it.
"""

from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float64
from sklearn.utils.validation import validate_data

from projections.eigen import LEAST_DIM, leading_eigen, leading_of_rows
from projections.fitted import MomentsProjection, Solution
from projections.moments import Moments

FEW = 16  # directions of so many times the columns take less work than a covariance
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

    def fit(self, X: Any, y: Any = None) -> "PCAProjection":
        """Fit on these rows alone.

        Few directions of many columns are found without a covariance, which would be more work.
        They keep the most variance that so many can to about a thousandth, and no further rows can
        be taken then: for that, begin with ``partial_fit``.
        """
        given, X = X, validate_data(self, X, dtype=[np.float32, np.float64])
        rows, dim = X.shape
        found = None
        # any other type of width, wrong or right, is for the general way
        if type(self.n_components) is int and LEAST_DIM <= dim <= rows:
            few = 1 <= self.n_components <= dim / FEW
            found = leading_of_rows(X, self.n_components) if few else None
        if found is None:
            return super().fit(given, y)  # which reads the columns' names again
        self.__dict__.pop("moments_", None)
        mean, (variances, directions) = found
        self._keep(mean, self._solution(variances, directions))
        return self

    def _solve(self, moments: Moments, dim_out: int) -> Solution:
        return self._solution(*leading_eigen(moments.covariance, dim_out))

    def _solution(
        self,
        variances: Float64[np.ndarray, " dim_out"],
        directions: Float64[np.ndarray, "dim dim_out"],
    ) -> Solution:
        varies = variances > FLOOR * variances[0]
        if self.whiten and varies.any():
            directions = directions / np.sqrt(np.maximum(variances, variances[varies].min()))
        return Solution(
            matrix=directions,
            strengths=variances,
            rank=int(varies.sum()),
            facts={"whiten": bool(self.whiten)},
        )
