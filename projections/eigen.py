"""The leading eigenvectors of a covariance, and what is left of it when some directions are known.

A few of many come from block Lanczos with full reorthogonalisation (Golub & Underwood, 1977; here
in the form of Musco & Musco, 2015, arXiv:1504.05477, section 3): a basis Q of the span of X, SX,
S²X, … is grown block by block, and the eigenvectors of QᵀSQ give those of S. What was found says
itself how good it is; where it is not good enough soon, LAPACK does the work.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import scipy.linalg
from jaxtyping import Float, Float64

LEAST_DIM, FEW = 512, 8  # from this width on, up to dim / 8 eigenvectors, Lanczos beats LAPACK
BLOCK = 16  # columns that the basis grows by
ENOUGH = 1e-4  # |S v - l v| / l of every eigenvector that is taken
LEAST, WIDEST = (
    64,
    6,
)  # a basis of 6 times the vectors, counted as 64 at least, and LAPACK is as fast
LOADING = 1e-9  # of the mean variance, so that what is left of a singular covariance has an order
GAIN = 1e-3  # of the variance kept: what the last block may have brought, if it is to be the last
BATCH = 512  # rows that are multiplied while the cache holds them
SAFE = (1e-28, 1e28)  # variances outside are not safe in float32

Eigen = tuple[Float64[np.ndarray, " count"], Float64[np.ndarray, "dim count"]]


def leading_eigen(symmetric: Float64[np.ndarray, "dim dim"], count: int) -> Eigen:
    """Largest ``count`` eigenvalues, falling and never below zero, and orthonormal eigenvectors.

    The largest entry of each vector, by size, is positive. Each vector v of value l has
    |S v - l v| <= 1e-4 l, and is exact to rounding where dim is below 512 or ``count`` above
    dim / 8.
    """
    dim = len(symmetric)
    found = None
    if dim >= LEAST_DIM and count * FEW <= dim:
        found = _lanczos(symmetric, count)
    if found is None:
        found = _lapack(symmetric, count)
    values, vectors = found
    return np.maximum(values, 0.0), oriented(vectors)


def leading_of_rows(
    rows: Float[np.ndarray, "rows dim"], count: int
) -> tuple[Float64[np.ndarray, " dim"], Eigen] | None:
    """Mean of rows and their leading variances and directions, the covariance never formed.

    They keep as much variance as any so many directions do, less about a thousandth; None where
    that does not come quickly. For ``count`` below dim / 16 this is less work than a covariance.
    The start are some of the rows: they have a part along each direction that is wanted.
    """
    ones = np.ones(BATCH, dtype=rows.dtype)
    blocks = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    sums = np.stack([ones[: len(some)] @ some for some in blocks])
    mean = sums.sum(axis=0, dtype=np.float64) / len(rows)
    centre = mean.astype(rows.dtype)
    room = np.empty((min(BATCH, len(rows)), rows.shape[1]), dtype=rows.dtype)

    def covariance_times(
        block: Float64[np.ndarray, "dim block"],
    ) -> Float64[np.ndarray, "dim block"]:
        total, narrow = np.zeros(block.shape), block.astype(rows.dtype, order="C")
        for some in blocks:
            deviations = np.subtract(some, centre, out=room[: len(some)])
            with np.errstate(over="ignore", invalid="ignore"):  # refused below
                total += deviations.T @ (deviations @ narrow)
        return total / len(rows)

    width, kept = max(BLOCK, count // 4), 0.0
    spread = np.linspace(0, len(rows) - 1, width).astype(np.int64)
    start = (rows[spread] - centre).T.astype(np.float64)
    for basis, images in _grown(covariance_times, start, WIDEST * count):
        if not SAFE[0] < np.abs(images).max() < SAFE[1]:
            return None
        if basis.shape[1] < 2 * count:
            continue
        small = basis.T @ images
        before, kept = kept, float(np.linalg.eigvalsh(small)[-count:].sum())
        if kept - before <= GAIN * kept:
            values, mixing = _ritz(small, count)
            return mean, (np.maximum(values, 0.0), oriented(basis @ mixing))
    return None


def oriented(vectors: Float64[np.ndarray, "dim count"]) -> Float64[np.ndarray, "dim count"]:
    """Give each column the sign that makes its largest entry, by size, positive."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    signed: Float64[np.ndarray, "dim count"] = vectors * np.where(largest < 0, -1.0, 1.0)
    return signed


def residual_directions(
    covariance: Float64[np.ndarray, "dim dim"], known: Float64[np.ndarray, "dim known"], count: int
) -> Eigen:
    """Variances, falling, and directions of what the numbers x @ ``known`` leave unexplained.

    They are the principal directions V of R = S - SK (KᵀSK)⁻¹ KᵀS, the covariance about the best
    linear guess from the known numbers, less their share in those: F = V - K (KᵀSK)⁻¹ KᵀS V. So
    FᵀSF = diag(variances) and FᵀSK = 0. ``known`` has full column rank in S; ``count`` is at most
    dim less its columns.
    """
    dim = len(covariance)
    loading = LOADING * (float(np.trace(covariance)) / dim or 1.0)
    loaded = covariance + loading * np.eye(dim)
    shared = loaded @ known
    guess = scipy.linalg.solve(known.T @ shared, shared.T, assume_a="pos")
    left = loaded - shared @ guess
    values, vectors = leading_eigen((left + left.T) / 2, count)
    return values, vectors - known @ (guess @ vectors)


def _lapack(symmetric: Float64[np.ndarray, "dim dim"], count: int) -> Eigen:
    """The largest alone where they are few; all of them where LAPACK does not find those."""
    dim = len(symmetric)
    if 2 * count <= dim:
        # of eigenvalues that are equal but for rounding it may say too few, or that it failed
        with suppress(scipy.linalg.LinAlgError):
            values, vectors = scipy.linalg.eigh(symmetric, subset_by_index=(dim - count, dim - 1))
            if len(values) == count:
                return values[::-1], vectors[:, ::-1]
    values, vectors = scipy.linalg.eigh(symmetric)
    return values[::-1][:count], vectors[:, ::-1][:, :count]


def _lanczos(symmetric: Float64[np.ndarray, "dim dim"], count: int) -> Eigen | None:
    """Eigenvalues and vectors to ``ENOUGH``, or None where they do not come quickly."""
    dim, step = len(symmetric), max(count, LEAST)
    look = 3 * step
    start = np.random.default_rng(0).standard_normal((dim, BLOCK))  # any will do
    most = min(WIDEST * step, dim // 2)
    for basis, images in _grown(lambda block: symmetric @ block, start, most):
        if basis.shape[1] < look:
            continue
        look += step
        values, mixing = _ritz(basis.T @ images, count)
        vectors = basis @ mixing
        residuals = np.linalg.norm(images @ mixing - vectors * values, axis=0)
        # where S has too low a rank for the basis, rounding spoils its orthogonality
        skew = np.abs(vectors.T @ vectors - np.eye(count)).max()
        if (residuals <= ENOUGH * values).all() and skew < 1e-10:
            return values, vectors
    return None


def _grown(
    product: Callable[[np.ndarray], np.ndarray], block: Float64[np.ndarray, "dim width"], most: int
) -> Iterator[tuple[Float64[np.ndarray, "dim grown"], Float64[np.ndarray, "dim grown"]]]:
    """Yield the basis and its images under S after each block like the first, up to ``most``."""
    dim, width = block.shape
    basis, images = (np.empty((dim, most + width), order="F") for _ in range(2))
    for start in range(0, min(most, dim - width), width):
        known, stop = basis[:, :start], start + width
        for _ in range(2 if start else 0):  # twice is enough (Giraud et al., 2005)
            block -= known @ (known.T @ block)
        block = np.linalg.qr(block)[0]
        basis[:, start:stop] = block
        block = product(block)
        images[:, start:stop] = block
        yield basis[:, :stop], images[:, :stop]


def _ritz(
    small: Float64[np.ndarray, "width width"], count: int
) -> tuple[Float64[np.ndarray, " count"], Float64[np.ndarray, "width count"]]:
    """Best eigenvalues that a basis Q with QᵀSQ = ``small`` holds, and how it is mixed for them."""
    values, mixing = np.linalg.eigh((small + small.T) / 2)
    return values[::-1][:count], mixing[:, ::-1][:, :count]
