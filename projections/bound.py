"""What the Johnson-Lindenstrauss lemma promises, and how far one random map is expected to stray.

The lemma (Dasgupta & Gupta, 2003, theorem 2.1, doi:10.1002/rsa.10073): n points keep all their
squared distances within a factor 1 ± eps under some map to k dimensions, and a random one with
good probability after few trials, once

    k >= 4 ln(n) / (eps² / 2 - eps³ / 3),    0 < eps < 1.

It is a promise about the worst pair; the expected spreads are about a typical one.
"""

import math

from projections.base import ProjectionError


def jl_dim(rows: int, eps: float) -> int:
    """Smallest k with which the lemma keeps the distances of ``rows`` points within 1 ± eps."""
    _check_rows(rows)
    if not 0 < eps < 1:
        raise ProjectionError(f"eps must lie strictly between 0 and 1, got {eps}")
    return math.ceil(4 * math.log(rows) / (eps**2 / 2 - eps**3 / 3))


def jl_eps(rows: int, dim: int) -> float | None:
    """Smallest eps the lemma promises ``rows`` points in ``dim`` dimensions; None if none below 1.

    With c = 4 ln(rows) / dim it is the root of eps² / 2 - eps³ / 3 = c between 0 and 1, which
    exists for c < 1/6: with eps = 1/2 + cos(t) the cubic turns into cos(3t) = 1 - 12 c.
    """
    _check_rows(rows)
    _check_dim("dim", dim)
    c = 4 * math.log(rows) / dim
    if c >= 1 / 6:
        return None
    return 0.5 + math.cos((2 * math.pi - math.acos(1 - 12 * c)) / 3)


def gaussian_ratio_std(dim_in: int, dim_out: int) -> float:
    """sqrt(2 / k): spread of a chi-squared number of k degrees of freedom over its mean."""
    _check_dims(dim_in, dim_out)
    return math.sqrt(2 / dim_out)


def orthonormal_ratio_std(dim_in: int, dim_out: int) -> float:
    """sqrt(2 (d - k) / (k (d + 2))): of a Beta(k/2, (d - k)/2) number over its mean k/d."""
    _check_dims(dim_in, dim_out)
    return math.sqrt(2 * (dim_in - dim_out) / (dim_out * (dim_in + 2)))


def hadamard_ratio_std(dim_in: int, dim_out: int) -> float:
    """sqrt(2 (D - k) (1 - 1/d) / (k (D - 1))), D = d padded to a power of two: the most there is.

    Reached by a difference whose entries are all of one size. Others have sqrt(1 - sum(x⁴)) over
    sqrt(1 - 1/d) of it, for x of length one: only what is made of few entries has clearly less.
    """
    _check_dims(dim_in, dim_out)
    padded = 1 << (dim_in - 1).bit_length()
    dropped = (padded - dim_out) / max(1, padded - 1)
    return math.sqrt(2 * dropped * (1 - 1 / dim_in) / dim_out)


def shared_shift(dim_out: int, participation_ratio: float) -> float:
    """sqrt(2 / (k PR)): by how much one map moves the ratios of all pairs together, one std.

    The mean ratio over all pairs is tr(Rᵀ C R) / tr(C) with C the rows' covariance; over Gaussian
    maps its variance is 2 tr(C²) / (k tr(C)²).
    """
    _check_dim("dim_out", dim_out)
    if not participation_ratio >= 1:
        raise ProjectionError(f"a participation ratio is at least 1, got {participation_ratio}")
    return math.sqrt(2 / (dim_out * participation_ratio))


def _check_rows(rows: int) -> None:
    if rows < 2:
        raise ProjectionError(f"distances need at least 2 rows, got {rows}")


def _check_dim(name: str, value: int) -> None:
    if value < 1:
        raise ProjectionError(f"{name} must be at least 1, got {value}")


def _check_dims(dim_in: int, dim_out: int) -> None:
    _check_dim("dim_out", dim_out)
    if dim_out > dim_in:
        raise ProjectionError(f"dim_out must be at most dim_in, got {dim_out} and {dim_in}")
