"""Dense Gaussian random projection.

With R of shape (dim_in, dim_out) and entries drawn from N(0, 1 / dim_out), squared
distances between rows are kept in expectation, and within a factor 1 ± eps for all pairs
of n points with good probability once

    dim_out >= 4 ln(n) / (eps² / 2 − eps³ / 3)

(Dasgupta & Gupta, 2003, theorem 2.1, doi:10.1002/rsa.10073). The ratio of squared distances
after and before has the spread sqrt(2 / dim_out).
"""

from typing import ClassVar, final

import numpy as np
from jaxtyping import Float32

from projections.base import DenseProjection
from projections.normal import fill_normals, stream


def gaussian_matrix(
    dim_in: int, dim_out: int, seed: int
) -> Float32[np.ndarray, "{dim_in} {dim_out}"]:
    """Draw entries from N(0, 1 / dim_out), row by row, computed in float64 and rounded once."""
    matrix = np.empty((dim_in, dim_out), dtype=np.float32)
    bits = stream("gaussian 1", dim_in, dim_out, seed)
    fill_normals(matrix.reshape(-1), bits, scale=1.0 / float(np.sqrt(np.float64(dim_out))))
    return matrix


@final
class GaussianProjection(DenseProjection):
    """Independent normal entries: the map of the Johnson-Lindenstrauss lemma."""

    kind: ClassVar[str] = "gaussian"
    algorithm: ClassVar[int] = 1

    draw = staticmethod(gaussian_matrix)
