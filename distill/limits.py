"""What a random map to k dimensions may do to distances: limits that theory gives, and the checks.

For rows x, y and a random map R the ratio ||(x-y)R||² / ||x-y||² has mean 1 and a spread ``std``
that its kind and widths give (Gaussian sqrt(2/k)). But one map is drawn, not one a pair: all
ratios move together, the more the fewer directions the differences have. With u the differences
at length 1 and A = mean of uuᵀ, the mean ratio given the pairs is tr(RᵀAR): its variance over
Gaussian maps is std² ||A||², and its tails are those of a weighted sum of chi-squared numbers
(Laurent & Massart 2000, lemma 1): with probability 1 - 2 exp(-t)

    -std ||A|| sqrt(2t) <= mean ratio - 1 <= std ||A|| sqrt(2t) + std² ||A|| t.

||A||² is the mean squared cosine between two differences, 1 / PR for plain clouds of points.
An orthonormal map strays upwards no more than a Gaussian of the same ``std``. Downwards a pair's
ratio has the longer tail of a Beta number, d/k Beta(k/2, (d-k)/2), the more so the nearer k is to
d: the lowest limit is its quantile where that is lower.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Float64

from distill.findings import Check

T = 10.0  # each side of the mean's limits fails a sound map with probability exp(-10) = 5e-5
OUTLIER_T = 11.5  # one pair lies outside these limits with probability 2 exp(-11.5) = 2e-5 ...
OUTLIERS = 0.01  # ... so more than 1 % of all do with probability 2e-3 at most (Markov)
# How many of its own spreads (over maps) the variance may lie above: a polynomial of degree 4 in
# normal numbers, longer in the tail the fewer they are. Settled with benchmarks/false_alarms.py.
SPREADS, LONGER = 8.0, 32.0
ROOM = 1e-6  # between 2 and std² k, below which a map's tails are a Gaussian's
ROUNDING = {"float32": 1e-4, "float16": 1e-2}  # of ratios, where rows lie far from the origin


@final
@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How alike the directions of the differences between rows are."""

    second: float  # mean squared cosine of two differences, ||A||²
    fourth: float  # mean fourth power of it


def overlap(differences: Float32[np.ndarray, "some dim"], pairs: int) -> Overlap:
    """For ``pairs`` differences of which these, none of them zero, are a random part."""
    lengths = np.sqrt(np.einsum("ij,ij->i", differences, differences))
    directions = differences / lengths[:, None]
    squared = (directions @ directions.T) ** 2
    some = len(differences)

    def mean(powers: Float32[np.ndarray, "some some"]) -> float:
        if some == 1:
            return 1.0
        others = (float(powers.sum(dtype=np.float64)) - some) / (some * (some - 1))
        return min(1.0, others + (1 - others) / pairs)  # each pair is at cosine 1 to itself

    return Overlap(second=mean(squared), fourth=mean(squared**2))


def participation(rows: Float32[np.ndarray, "rows dim"]) -> float:
    """(sum of l)² / (sum of l²) over the eigenvalues l of the covariance of these rows.

    ``projections.participation_ratio``, by the smaller of the two Gram matrices and in float32.
    """
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred /= np.abs(centred).max()
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    ratio = np.trace(gram, dtype=np.float64) ** 2 / np.sum(gram**2, dtype=np.float64)
    return max(1.0, float(ratio))  # rounding takes rows on a line below it


def mean_limits(std: float, dim_out: int, shared: Overlap) -> tuple[float, float]:
    """Between which the mean ratio of a sound map lies."""
    size = np.sqrt(shared.second)
    within = std * size * np.sqrt(2 * T)
    # with few directions the first bound falls below zero; no mean strays as far as one pair can
    low = max(float(1 - within), _lowest(std, dim_out, T))
    return low, float(1 + within + std**2 * size * T)


def std_limit(std: float, dim_out: int, shared: Overlap) -> float:
    """Largest standard deviation of the ratios of a sound map.

    The variance has mean std² at most. Two squared deviations are as correlated as the fourth
    power of the cosine says, and each has the variance (2 + 12/k) std⁴ of a chi-squared number's.
    """
    stray = np.sqrt((2 + 12 / dim_out) * shared.fourth)
    return float(std * np.sqrt(1 + (SPREADS + LONGER / dim_out) * stray))


def outlier_limits(std: float, dim_out: int) -> tuple[float, float]:
    """Between which the ratio of any one pair lies, but for one in 50,000."""
    low = _lowest(std, dim_out, OUTLIER_T)
    return low, float(1 + std * np.sqrt(2 * OUTLIER_T) + std**2 * OUTLIER_T)


def _lowest(std: float, dim_out: int, t: float) -> float:
    """Below which one pair's ratio lies with probability exp(-t) at most.

    Never 0, so a map that loses everything is found out at any width.
    """
    from scipy.special import betaincinv

    low = _lowest_chi_squared(std**2 * t)
    room = 2 - std**2 * dim_out  # none for a Gaussian map
    if std == 0 or room < ROOM:
        return low
    dim_in = 2 * dim_out * (1 + std**2) / room  # of the orthonormal map that has this spread
    share = float(betaincinv(dim_out / 2, (dim_in - dim_out) / 2, np.exp(-t)))
    return min(low, share * dim_in / dim_out)


def _lowest_chi_squared(exponent: float) -> float:
    """Solve x - 1 - ln(x) = ``exponent`` for x in (0, 1].

    P(chi²_k / k <= x) <= exp(-k/2 of that).
    """
    low, high = -2.0 - exponent, 0.0  # of ln(x)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if np.exp(middle) - 1 - middle < exponent else (middle, high)
    return float(np.exp((low + high) / 2))


def check_ratios(
    ratios: Float64[np.ndarray, " pairs"],
    near: Float64[np.ndarray, " near"],
    *,
    std: float,
    dim_out: int,
    shared: Overlap,
    near_shared: Overlap,
    rounding: float,
) -> tuple[Check, ...]:
    """Every check of a map whose ``std`` is known: random pairs, then pairs of true neighbours."""
    low, high = outlier_limits(std, dim_out)
    low, high = low * (1 - rounding), high * (1 + rounding)
    outside = float(np.mean((ratios < low) | (ratios > high)))
    limit = std_limit(std, dim_out, shared) + rounding
    return (
        _mean("scale", "mean ratio", ratios, mean_limits(std, dim_out, shared), rounding),
        Check(
            name="spread",
            passed=bool(ratios.std() <= limit),
            detail=f"the ratios' spread is {ratios.std():.4g}; at most {limit:.4g} of a sound map",
        ),
        Check(
            name="outliers",
            passed=outside <= OUTLIERS,
            detail=f"{outside:.2%} of the ratios lie outside {low:.4g} to {high:.4g}; "
            f"at most {OUTLIERS:.0%} of a sound map",
        ),
        _mean(
            "neighbours",
            "mean ratio of true neighbours",
            near,
            mean_limits(std, dim_out, near_shared),
            rounding,
        ),
    )


def check_recall(recall: float, *, chance: float, drawn: int) -> Check:
    """Whether more neighbours are kept than a shuffle would keep: five standard errors more."""
    limit = chance + 5 * float(np.sqrt(chance * (1 - chance) / drawn))
    return Check(
        name="recall",
        passed=recall > limit or chance == 1.0,
        detail=f"recall is {recall:.4g}; a shuffle would give {chance:.4g}, by luck {limit:.4g}",
    )


def _mean(
    name: str,
    what: str,
    ratios: Float64[np.ndarray, " pairs"],
    limits: tuple[float, float],
    rounding: float,
) -> Check:
    mean = float(ratios.mean())
    low, high = limits[0] * (1 - rounding), limits[1] * (1 + rounding)
    return Check(
        name=name,
        passed=bool(low <= mean <= high),
        detail=f"the {what} is {mean:.4g}; {low:.4g} to {high:.4g} of a sound map",
    )
