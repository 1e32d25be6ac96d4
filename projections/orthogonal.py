"""Random orthonormal projection: a uniformly (Haar) drawn subspace, in a uniformly drawn basis.

The columns of R, of shape (dim_in, dim_out), are orthogonal and of length
sqrt(dim_in / dim_out), so squared distances are kept in expectation; their ratio has the spread
sqrt(2 (d - k) / (k (d + 2))) with d = dim_in and k = dim_out, smaller than the Gaussian map's and
zero at k = d.

R is the Q factor of a Gaussian matrix with the signs that make its R factor's diagonal positive
(Mezzadri, 2007, arXiv:math-ph/0609050). LAPACK's QR differs in the last digits between CPUs, so Q
is built as a product of Householder reflections of independent Gaussian vectors of falling length,
which has the same distribution (Stewart, 1980, doi:10.1137/0717034), in the compact form

    Q = (I - V T Vᵀ)[:, :k] S,    T⁻¹ = upper triangle of VᵀV, its diagonal halved

(Puglisi, 1992, doi:10.1137/0913015). Bit-identity comes from arithmetic that cannot round: the
vectors lie on a grid, so the large products are sums of integers below 2⁵³, equal in whatever
order a BLAS adds them; what is left is elementwise, in an order fixed here.
"""

from typing import ClassVar, final

import numpy as np
from jaxtyping import Float32, Float64

from projections.base import DenseProjection
from projections.normal import fill_normals, stream

GRID = 2.0**16  # vectors are drawn to 2⁻¹⁷: odd numbers below 2²¹ in that unit
SLICE_BITS = 20
EXACT_TERMS = 2048  # products of 21 and 20 bits, 11 bits for this many of them: 52 in all


def orthogonal_matrix(
    dim_in: int, dim_out: int, seed: int
) -> Float32[np.ndarray, "{dim_in} {dim_out}"]:
    """Draw orthogonal columns of length sqrt(dim_in / dim_out), uniformly."""
    drawn = np.empty((dim_in, dim_out))
    fill_normals(drawn.reshape(-1), stream("orthogonal 1", dim_in, dim_out, seed))
    # midpoints of the grid: never zero, so that every vector has a direction and a sign
    drawn = np.tril((np.floor(drawn * GRID) + 0.5) / GRID)
    frame = _frame(drawn)
    frame *= np.sqrt(np.float64(dim_in) / np.float64(dim_out))
    return frame.astype(np.float32)


@final
class OrthogonalProjection(DenseProjection):
    """Orthonormal columns, scaled to keep squared distances on average."""

    kind: ClassVar[str] = "orthogonal"
    algorithm: ClassVar[int] = 1

    draw = staticmethod(orthogonal_matrix)


def _frame(drawn: Float64[np.ndarray, "d k"]) -> Float64[np.ndarray, "d k"]:
    """Orthonormal columns from vectors x_j = drawn[j:, j] on the grid.

    Reflection j has the vector v_j = x_j + sign(x_jj) |x_j| e_j. Only its leading entry is off
    the grid: that entry's share of every product is added by hand.
    """
    k = drawn.shape[1]
    diagonal = np.arange(k)
    lead = drawn[diagonal, diagonal].copy()
    sign = np.where(lead > 0, 1.0, -1.0)
    below = drawn
    below[diagonal, diagonal] = 0.0
    gram = _exact_product(below.T, below)
    squares = gram[diagonal, diagonal]
    lead += sign * np.sqrt(squares + lead * lead)
    inverse_t = gram + below[:k].T * lead  # v_i · v_j for i < j: only the upper triangle is used
    inverse_t[diagonal, diagonal] = (squares + lead * lead) / 2.0
    top = below[:k].T.copy()
    top[diagonal, diagonal] = lead
    weights = _solve_upper(inverse_t, top)  # T times the transposed top of V, upper triangular
    frame = _sliced_product(below, weights)
    frame[:k] += lead[:, None] * weights
    np.negative(frame, out=frame)
    frame[diagonal, diagonal] += 1.0
    frame *= -sign
    return frame


def _solve_upper(
    upper: Float64[np.ndarray, "k k"], right: Float64[np.ndarray, "k k"]
) -> Float64[np.ndarray, "k k"]:
    """Solve upper @ x = right, both upper triangular, row by row from below."""
    found = right
    scratch = np.empty_like(right)
    for j in range(len(upper) - 1, -1, -1):
        found[j, j:] /= upper[j, j]
        step = scratch[:j, j:]
        np.multiply(upper[:j, j, None], found[j, j:], out=step)
        found[:j, j:] -= step
    return found


def _exact_product(
    left: Float64[np.ndarray, "m n"], right: Float64[np.ndarray, "n p"]
) -> Float64[np.ndarray, "m p"]:
    """Multiply without rounding inside a block of terms; the blocks are added in order."""
    total: Float64[np.ndarray, "m p"] = left[:, :EXACT_TERMS] @ right[:EXACT_TERMS]
    for start in range(EXACT_TERMS, left.shape[1], EXACT_TERMS):
        stop = start + EXACT_TERMS
        total += left[:, start:stop] @ right[start:stop]
    return total


def _sliced_product(
    left: Float64[np.ndarray, "m n"], right: Float64[np.ndarray, "n p"]
) -> Float64[np.ndarray, "m p"]:
    """Multiply grid numbers by any numbers, the latter cut into three slices of few bits.

    Each slice's product is exact (Ozaki et al., 2012, doi:10.1007/s11075-011-9478-1); what lies
    below the third slice, 2⁻⁶⁰ of the largest entry, is left out.
    """
    _, exponent = np.frexp(np.abs(right).max())
    unit = np.ldexp(1.0, int(exponent) - SLICE_BITS)
    total = np.zeros((left.shape[0], right.shape[1]))
    rest = right
    for _ in range(3):
        piece = np.rint(rest / unit) * unit
        total += _exact_product(left, piece)
        rest = rest - piece
        unit = np.ldexp(unit, -SLICE_BITS)
    return total
