"""Subsampled randomised Hadamard transform: a random map without a matrix.

A row x of dim_in numbers, padded with zeros to D, the next power of two, becomes

    sqrt(D / dim_out) (x S H)[kept]

with random signs S, the orthonormal Walsh-Hadamard matrix H, and dim_out of the D coordinates,
drawn without replacement (Ailon & Chazelle, 2006, doi:10.1145/1132516.1132597; Tropp, 2011,
arXiv:1011.1595). As a matrix all its entries are ± sqrt(1 / dim_out). Squared distances are kept
in expectation; their ratio has the variance

    2 (D - k) / (k (D - 1)) (1 - sum(x⁴) / sum(x²)²),    k = dim_out

which is below the Gaussian map's 2 / k for all rows, and zero at k = D. Padding costs rank, not
distances: with dim_in < D, coordinates whose numbers differ in the highest bits are much alike, and
at dim_out near dim_in some of them are made of others.

H is the Kronecker product of two Hadamard matrices. So rows are mapped by two BLAS products with a
small factor each, of which the second makes the kept coordinates only: a dim_in + b dim_out
multiplications a row for factors of a and b = D / a rows. On a CPU this is faster than butterflies,
which move more memory than they add numbers.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float, Float32, Float64, Int8, Int64
from scipy.linalg import hadamard
from sklearn.utils.validation import check_is_fitted

from projections.base import ProjectionError, RandomProjection
from projections.normal import stream

BLOCK = 1 << 19  # numbers at a time: 2 MiB in float32, so that the blocks stay in the cache
GPU_BLOCK = 1 << 25  # 128 MiB in float32: large enough to keep a GPU busy


def padded_dim(dim_in: int) -> int:
    """Smallest power of two that is not below ``dim_in``."""
    return 1 << (dim_in - 1).bit_length()


def draw_signs_and_kept(
    dim_in: int, dim_out: int, seed: int
) -> tuple[Int8[np.ndarray, " {dim_in}"], Int64[np.ndarray, " {dim_out}"]]:
    """Draw the signs, 1 or -1, and the kept coordinates in rising order.

    One 64-bit word each; kept are those of the smallest words.
    """
    bits = stream("hadamard 1", dim_in, dim_out, seed)
    negative = np.asarray(bits.random_raw(dim_in)) >> np.uint64(63)
    order = np.argsort(np.asarray(bits.random_raw(padded_dim(dim_in))), kind="stable")
    return 1 - 2 * negative.astype(np.int8), np.sort(order[:dim_out])


@final
class HadamardProjection(RandomProjection):
    """Held as ``signs_`` (int8, one a column) and ``kept_`` (int64, one a component).

    Beyond its result ``transform`` takes two blocks of at most 2 MiB (float64: 4 MiB) or one padded
    row, and the kept columns of one factor: never a (dim_in, dim_out) matrix.
    """

    kind: ClassVar[str] = "hadamard"
    algorithm: ClassVar[int] = 1

    @property
    def matrix(self) -> Float32[np.ndarray, "{self.dim_in} {self.dim_out}"]:
        """The map written out anew, read-only: a row x becomes x @ matrix."""
        check_is_fitted(self)
        left, right = _factors(padded_dim(self.dim_in), np.float32)
        rows = np.divmod(np.arange(self.dim_in), len(right))
        kept = np.divmod(self.kept_, len(right))
        matrix: Float32[np.ndarray, "{self.dim_in} {self.dim_out}"]
        matrix = left[np.ix_(rows[0], kept[0])] * right[np.ix_(rows[1], kept[1])]
        matrix *= self._scaled_signs(np.float32)[:, None]
        matrix.flags.writeable = False
        return matrix

    def transform_tensor(self, X: Any) -> Any:
        """Map a torch tensor (rows, dim_in) on its own device; float32 and float64 stay.

        Other types are read as float32. Autocast does not apply, gradients pass. TF32, if it was
        switched on, rounds the rows. ``ProjectionError`` for another shape.
        """
        import torch  # the front door must not load it

        check_is_fitted(self)
        if X.ndim != 2 or X.shape[1] != self.dim_in:
            raise ProjectionError(
                f"X has the shape {tuple(X.shape)}, but this {type(self).__name__} "
                f"reads rows of {self.dim_in}: pass a tensor (rows, {self.dim_in})"
            )
        X = X if X.dtype in (torch.float32, torch.float64) else X.float()
        dim = padded_dim(self.dim_in)
        arrays = (*_factors(dim, np.float32), self._scaled_signs(np.float32))
        left, right, signs = (torch.from_numpy(array).to(X) for array in arrays)
        kept = torch.tensor(self.kept_, device=X.device)
        rows = max(1, (GPU_BLOCK if X.is_cuda else BLOCK) // dim)
        mapped = X.new_empty((len(X), self.dim_out))
        with torch.autocast(X.device.type, enabled=False):
            for start in range(0, len(X), rows):
                block = X[start : start + rows] * signs
                block = torch.nn.functional.pad(block, (0, dim - self.dim_in))
                turned = left @ (block.view(-1, len(left), len(right)) @ right)
                mapped[start : start + rows] = turned.view(-1, dim)[:, kept]
        return mapped

    def _draw(self, dim_in: int, dim_out: int, seed: int) -> None:
        self.signs_, self.kept_ = draw_signs_and_kept(dim_in, dim_out, seed)
        self.signs_.flags.writeable = self.kept_.flags.writeable = False

    def _apply(
        self, X: Float[np.ndarray, "rows {self.dim_in}"]
    ) -> Float[np.ndarray, "rows {self.dim_out}"]:
        dim = padded_dim(self.dim_in)
        # the fewest multiplications are those of factors a² = D dim_out / dim_in
        left, right = _factors(dim, X.dtype, of=dim * self.dim_out // self.dim_in)
        signs = self._scaled_signs(X.dtype)
        first, second = np.divmod(self.kept_, len(right))
        ends = np.searchsorted(first, np.arange(len(left) + 1))
        slices = [slice(*pair) for pair in itertools.pairwise(ends)]  # columns a row of left makes
        width, pieces = len(right), -(-self.dim_in // len(right))  # then come zeros only
        left, right = left[:, :pieces], right[:, second]
        rows = max(1, min(len(X), BLOCK // (len(left) * width)))
        mapped = np.empty((len(X), self.dim_out), dtype=X.dtype)
        # taken once: what is given back to the system comes again page by page
        spread, mixed = (np.empty(n * rows * width, dtype=X.dtype) for n in left.T.shape)
        for start in range(0, len(X), rows):
            block = X[start : start + rows]
            here = spread[: pieces * len(block) * width].reshape(pieces, -1)
            half = mixed[: len(left) * len(block) * width].reshape(len(left), -1)
            _spread(block, signs, here.reshape(pieces, -1, width))
            np.matmul(left, here, out=half)
            for part, kept in zip(half.reshape(len(left), -1, width), slices, strict=True):
                np.matmul(part, right[:, kept], out=mapped[start : start + rows, kept])
        return mapped

    def _invert(
        self, Y: Float64[np.ndarray, "rows {self.dim_out}"]
    ) -> Float64[np.ndarray, "rows {self.dim_in}"]:
        dim = padded_dim(self.dim_in)
        if self.dim_in < dim:  # cut rows of H are not orthogonal: a dense pseudo-inverse
            return super()._invert(Y)
        # The columns are orthogonal and of squared length D scale²: the transposed map over that.
        left, right = _factors(dim, np.float64)
        whole = np.zeros((len(Y), dim))
        whole[:, self.kept_] = Y
        turned = left @ (whole.reshape(-1, len(left), len(right)) @ right)
        signs = self._scaled_signs(np.float64)
        rows: Float64[np.ndarray, "rows {self.dim_in}"]
        rows = turned.reshape(-1, dim) / (dim * signs)
        return rows

    def _bits(self) -> Iterator[np.ndarray]:
        """Signs, one byte each, then kept coordinates, eight bytes each."""
        check_is_fitted(self)
        yield self.signs_
        yield self.kept_.astype("<i8", copy=False)

    def _scaled_signs(self, dtype: Any) -> Float[np.ndarray, " {self.dim_in}"]:
        """Signs times the size of the map's entries, which is rounded to float32."""
        signs: Float[np.ndarray, " {self.dim_in}"]
        signs = self.signs_.astype(dtype) * np.float32(1 / math.sqrt(self.dim_out))
        return signs


def _factors(
    dim: int, dtype: Any, *, of: int | None = None
) -> tuple[Float[np.ndarray, "left left"], Float[np.ndarray, "right right"]]:
    """Two Hadamard matrices of entries ±1 whose Kronecker product is that of ``dim``.

    The left one has sqrt(of) rows, rounded down to a power of two; as many as it can without
    being the larger one if nothing is said.
    """
    left = 1 << ((of or dim).bit_length() - 1) // 2
    return hadamard(left, dtype=dtype), hadamard(dim // left, dtype=dtype)


def _spread(
    rows: Float[np.ndarray, "rows dim"],
    signs: Float[np.ndarray, " dim"],
    out: Float[np.ndarray, "pieces rows width"],
) -> None:
    """Write rows, signed and padded, in pieces: the first piece of all rows comes first."""
    width = out.shape[2]
    whole, rest = divmod(rows.shape[1], width)
    cut = whole * width
    pieces = rows[:, :cut].reshape(len(rows), whole, width).swapaxes(0, 1)
    np.multiply(pieces, signs[:cut].reshape(whole, 1, width), out=out[:whole])
    if rest:
        np.multiply(rows[:, cut:], signs[cut:], out=out[whole, :, :rest])
        out[whole, :, rest:] = 0.0
