"""Sparse random projections: most entries are zero, all others are of one size.

With R of shape (dim_in, dim_out) and independent entries

    ± sqrt(1 / (density dim_out))    with probability density / 2 each,    else 0,

squared distances are kept in expectation. The ratio of squared distances after and before has the
variance

    (2 + (1 / density - 3) sum(x⁴) / sum(x²)²) / dim_out

where x is the difference of the two rows. ``achlioptas`` has density 1/3 (Achlioptas, 2003,
doi:10.1016/S0022-0000(03)00025-4): the rows drop out, and the spread is the Gaussian map's.
``sparse`` has density 1 / sqrt(dim_in) (Li, Hastie & Church, 2006, doi:10.1145/1150402.1150436):
nearly the Gaussian map's spread where a difference is made of many entries, and up to sqrt(dim_in)
times its variance where it is made of few. So nothing can be said before the data is seen.
"""

from collections.abc import Iterator
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.sparse import csr_array
from sklearn.utils.validation import check_is_fitted

from projections.base import DenseProjection, RandomProjection
from projections.normal import BLOCK, stream

# With fewer columns BLAS is as fast on one core (python -m benchmarks maps): the density is above
# 1/20 there. From here on the sparse product leads: 1.2 to 1.5 times at 384 to 96 and 512 to 128,
# 4 times at 2048 to 1024, 7 times at 4096 to 2048.
DENSE_BELOW = 384
CACHED = 1 << 15  # numbers of X at a time, or 32 rows if they are more: what the cache can hold
DIGESTED = 256  # rows of the map written out at a time


def sparse_matrix(name: str, dim_in: int, dim_out: int, seed: int, density: float) -> csr_array:
    """Draw float32 entries of this density in (0, 1]; ``name`` names the stream of bits.

    Memory beyond what is not zero is a block of words.
    """
    places, values = zip(*_drawn(name, dim_in, dim_out, seed, density), strict=True)
    rows, columns = np.divmod(np.concatenate(places), dim_out)
    starts = np.searchsorted(rows, np.arange(dim_in + 1))
    return csr_array((np.concatenate(values), columns, starts), shape=(dim_in, dim_out))


def achlioptas_matrix(
    dim_in: int, dim_out: int, seed: int
) -> Float32[np.ndarray, "{dim_in} {dim_out}"]:
    """Draw entries of which two thirds are zero."""
    matrix = np.zeros((dim_in, dim_out), dtype=np.float32)
    for places, values in _drawn("achlioptas 1", dim_in, dim_out, seed, 1 / 3):
        matrix.reshape(-1)[places] = values
    return matrix


@final
class AchlioptasProjection(DenseProjection):
    """Two thirds of the entries zero: held dense, since a sparse product would be slower."""

    kind: ClassVar[str] = "achlioptas"
    algorithm: ClassVar[int] = 1

    draw = staticmethod(achlioptas_matrix)


@final
class SparseProjection(RandomProjection):
    """All but 1 / sqrt(dim_in) of the entries zero: held as ``entries_``, a SciPy CSR array."""

    kind: ClassVar[str] = "sparse"
    algorithm: ClassVar[int] = 1

    @property
    def matrix(self) -> Float32[np.ndarray, "{self.dim_in} {self.dim_out}"]:
        """The map written out anew, read-only: a row x becomes x @ matrix."""
        check_is_fitted(self)
        matrix: Float32[np.ndarray, "{self.dim_in} {self.dim_out}"] = self.entries_.toarray()
        matrix.flags.writeable = False
        return matrix

    def _draw(self, dim_in: int, dim_out: int, seed: int) -> None:
        density = 1 / float(np.sqrt(np.float64(dim_in)))
        self.entries_ = sparse_matrix("sparse 1", dim_in, dim_out, seed, density)

    def _apply(
        self, X: Float[np.ndarray, "rows {self.dim_in}"]
    ) -> Float[np.ndarray, "rows {self.dim_out}"]:
        mapped = np.empty((len(X), self.dim_out), dtype=X.dtype)
        if self.dim_in < DENSE_BELOW:
            return np.matmul(X, self.matrix.astype(X.dtype, copy=False), out=mapped)
        turned = self.entries_.T.astype(X.dtype, copy=False)  # SciPy reads a row of X at a time
        rows = max(32, CACHED // self.dim_in)
        for start in range(0, len(X), rows):
            mapped[start : start + rows] = (turned @ X[start : start + rows].T).T
        return mapped

    def _bits(self) -> Iterator[np.ndarray]:
        for start in range(0, self.dim_in, DIGESTED):
            yield self.entries_[start : start + DIGESTED].toarray().astype("<f4", copy=False)


def _drawn(
    name: str, dim_in: int, dim_out: int, seed: int, density: float
) -> Iterator[tuple[Int64[np.ndarray, " found"], Float32[np.ndarray, " found"]]]:
    """Draw what is not zero, a block at a time: its places, counted row by row, and its values.

    Each entry takes one 64-bit word: the top bit is the sign, the others say whether it is zero.
    """
    size = np.float32(np.sqrt(1.0 / (density * dim_out)))
    level = np.uint64(int(density * 2.0**63))
    below_sign = np.uint64(2**63 - 1)
    bits = stream(name, dim_in, dim_out, seed)
    for start in range(0, dim_in * dim_out, BLOCK):
        words = np.asarray(bits.random_raw(min(BLOCK, dim_in * dim_out - start)))
        places = np.flatnonzero((words & below_sign) < level)
        yield start + places, np.where(words[places] > below_sign, -size, size)
