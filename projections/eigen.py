"""The leading eigenvectors of a covariance, and what is left of it when some directions are known.

A few of many come from block Lanczos with full reorthogonalisation (Golub & Underwood, 1977; here
in the form of Musco & Musco, 2015, arXiv:1504.05477, section 3): a basis Q of the span of X, SX,
S²X, … is grown block by block, and the eigenvectors of QᵀSQ give those of S. It is taken only when
each of its residuals says that it is right; LAPACK does the rest.
"""

import numpy as np
import scipy.linalg
from jaxtyping import Float64

BLOCK = 16  # columns that the basis grows by
ENOUGH = 1e-4  # |S v - l v| / l of every eigenvector that is taken
LEAST_DIM, FEW = 512, 8  # from this width on, up to dim / 8 eigenvectors, it beats LAPACK
LEAST, WIDEST = (
    64,
    6,
)  # a basis of 6 times the vectors, counted as 64 at least, and LAPACK is as fast
LOADING = 1e-9  # of the mean variance, so that what is left of a singular covariance has an order

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
        values, vectors = scipy.linalg.eigh(
            symmetric, subset_by_index=None if 2 * count > dim else (dim - count, dim - 1)
        )
        found = values[::-1][:count], vectors[:, ::-1][:, :count]
    values, vectors = found
    return np.maximum(values, 0.0), oriented(vectors)


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


def _lanczos(symmetric: Float64[np.ndarray, "dim dim"], count: int) -> Eigen | None:
    """Eigenvalues and vectors to ``ENOUGH``, or None where they do not come quickly."""
    dim = len(symmetric)
    step = max(count, LEAST)
    most = min(WIDEST * step, dim // 2)
    basis, images = (np.empty((dim, most + BLOCK), order="F") for _ in range(2))
    block: Float64[np.ndarray, "dim block"]
    block = np.random.default_rng(0).standard_normal((dim, BLOCK))  # any start will do
    width, look = 0, 3 * step
    while width < most:
        for _ in range(2 if width else 0):  # twice is enough (Giraud et al., 2005)
            block -= basis[:, :width] @ (basis[:, :width].T @ block)
        block = scipy.linalg.qr(block, mode="economic", check_finite=False)[0]
        basis[:, width : width + BLOCK] = block
        block = symmetric @ block
        images[:, width : width + BLOCK] = block
        width += BLOCK
        if width >= look:
            values, vectors, sound = _ritz(basis[:, :width], images[:, :width], count)
            if sound:
                return values, vectors
            look += step
    return None


def _ritz(
    basis: Float64[np.ndarray, "dim width"], images: Float64[np.ndarray, "dim width"], count: int
) -> tuple[Float64[np.ndarray, " count"], Float64[np.ndarray, "dim count"], bool]:
    """Best eigenpairs that a basis holds, its images under S given, and whether they are right."""
    small = basis.T @ images
    values, mixing = np.linalg.eigh((small + small.T) / 2)
    values, mixing = values[::-1][:count], mixing[:, ::-1][:, :count]
    vectors = basis @ mixing
    residuals = np.linalg.norm(images @ mixing - vectors * values, axis=0)
    # where S has too low a rank for the basis, rounding spoils its orthogonality
    skew = np.abs(vectors.T @ vectors - np.eye(count)).max()
    return values, vectors, bool((residuals <= ENOUGH * values).all() and skew < 1e-10)
