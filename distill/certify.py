"""Certification: whether a compressed head is at most so much worse than the full one.

A *loss* is +1 on a row that the full head hits and the other misses, -1 the other way round, 0
where both do the same: its mean is the accuracy that is lost. A bound on that mean is bootstrapped
over rows and over seeds of the map. Non-inferiority ("at most one point worse") is shown when the
one-sided 95 % upper bound is within the tolerance, refuted when the lower bound is beyond it.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int8

from distill.findings import Certificate

WITHIN, WORSE, UNDECIDED, NOT_TESTED = "within", "worse", "undecided", "not tested"
LEVEL = 0.95  # one-sided
Z = 1.6448536269514722  # the normal's 95 % quantile
DRAWS = 10_000
EQUAL = 1e-9  # a loss this near to the tolerance is the tolerance


def losses(
    full: Bool[np.ndarray, " rows"], other: Bool[np.ndarray, "seeds rows"]
) -> Int8[np.ndarray, "seeds rows"]:
    """Loss of each row and seed, from which rows the two heads hit."""
    lost: Int8[np.ndarray, "seeds rows"] = full.astype(np.int8) - other.astype(np.int8)
    return lost


def certify(
    lost: Int8[np.ndarray, "seeds rows"],
    *,
    tolerance: float,
    draws: int = DRAWS,
    seed: int = 0,
) -> Certificate:
    """Say what these rows and seeds show about the mean loss.

    A map without a seed of its own gives one row of losses, and only rows are drawn.
    """
    seeds, rows = lost.shape
    loss = float(lost.mean())
    low, high = bounds(lost, draws=draws, seed=seed)
    verdict = WITHIN if high <= tolerance else WORSE if low > tolerance else UNDECIDED
    return Certificate(
        verdict=verdict,
        tolerance=tolerance,
        loss=loss,
        low=low,
        high=high,
        discordant=float((lost != 0).mean()),
        rows=rows,
        seeds=seeds,
        rows_needed=rows_needed(lost, tolerance) if verdict == UNDECIDED else None,
    )


def bounds(
    lost: Int8[np.ndarray, "seeds rows"], *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """One-sided 95 % lower and upper bounds of the mean loss.

    Where no row is gained under any seed the loss is a plain share of rows, and the bounds reach
    at least as far as Clopper and Pearson's exact ones (at the mean count of lost rows): a
    bootstrap of few discordant rows, or none, knows nothing of those it has not seen.
    """
    drawn = resampled(lost, draws=draws, seed=seed)
    low, high = (float(np.quantile(drawn, level)) for level in (1 - LEVEL, LEVEL))
    if not (lost < 0).any():
        from scipy.special import betaincinv

        rows = lost.shape[1]
        count = float(lost.mean()) * rows
        if count < rows:
            high = max(high, float(betaincinv(count + 1, rows - count, LEVEL)))
        exact = float(betaincinv(count, rows - count + 1, 1 - LEVEL)) if count else 0.0
        low = min(low, exact)
    return low, high


def resampled(
    lost: Int8[np.ndarray, "seeds rows"], *, draws: int, seed: int
) -> Float64[np.ndarray, " draws"]:
    """Mean loss of ``draws`` resamples, rows and seeds drawn with replacement, independently.

    Rows with the same losses are interchangeable, so their numbers are drawn (a multinomial)
    instead of every row. Of S > 1 seeds S - 1 are drawn: S of S would understate their variance
    by (S - 1) / S, which matters at five (Rao & Wu 1988, doi:10.1080/01621459.1988.10478591).
    """
    rng = np.random.default_rng(seed)
    seeds, rows = lost.shape
    patterns, counts = np.unique(lost, axis=1, return_counts=True)
    numbers = rng.multinomial(rows, counts / rows, size=draws)
    few = max(seeds - 1, 1)
    shares = rng.multinomial(few, np.full(seeds, 1 / seeds), size=draws) / few
    means: Float64[np.ndarray, " draws"] = np.einsum(
        "dp,dp->d", shares @ patterns.astype(np.float64), numbers / rows
    )
    return means


def fold_bound(
    lost: Sequence[Int8[np.ndarray, " _"]], *, draws: int = DRAWS, seed: int = 0
) -> float:
    """One-sided 95 % upper bound of the loss over seeds that each answered rows of their own.

    As in cross-validation: seeds are drawn, and then rows within each.
    """
    rng = np.random.default_rng(seed)
    shape = (draws, len(lost))
    chosen = rng.integers(0, len(lost), shape)
    means = np.empty(shape)
    for place, one in enumerate(lost):
        values, counts = np.unique(one, return_counts=True)
        numbers = rng.multinomial(len(one), counts / len(one), size=shape)
        means = np.where(chosen == place, numbers @ values.astype(np.float64) / len(one), means)
    return float(np.quantile(means.mean(axis=1), LEVEL))


def rows_needed(lost: Int8[np.ndarray, "seeds rows"], tolerance: float) -> int | None:
    """About how many rows would decide, if loss, discordance and seeds stay as they are.

    By the normal approximation: z² (v / rows + s² / seeds) is the squared distance from loss to
    tolerance, v the variance over rows of the mean over seeds, s² that of the seeds' losses. None
    where no number of rows decides: the loss is the tolerance itself, or seeds differ too much.
    """
    seeds, rows = lost.shape
    over_seeds: Float64[np.ndarray, " rows"] = lost.mean(axis=0)
    margin = abs(float(over_seeds.mean()) - tolerance)
    if margin < EQUAL:
        return None
    between = float(lost.mean(axis=1).var(ddof=1)) / seeds if seeds > 1 else 0.0
    room = (margin / Z) ** 2 - between
    if room <= 0:
        return None
    return int(max(rows + 1, math.ceil(float(over_seeds.var()) / room)))


def allowed_discordance(rows: int, tolerance: float) -> float:
    """Largest share of discordant rows at which no loss at all still certifies.

    z sqrt(share / rows) <= tolerance: 1.3 % of 360 rows at one point, 3.0 % of 808, 8.5 % of 2,305.
    """
    return min(1.0, rows * (tolerance / Z) ** 2)


def fixed_sequence(tests: Iterable[Callable[[], Certificate]]) -> Iterator[Certificate]:
    """Certificates in the order fixed beforehand; from the first that is not "within", none counts.

    Each hypothesis is tested at the full level only while all before it were shown, which keeps
    the chance of any false "within" in the sequence at 5 % (Maurer, Hothorn & Lehmacher 1995).
    What comes after is still estimated, and said to be not tested.
    """
    going = True
    for test in tests:
        found = test()
        if going:
            yield found
        else:
            yield dataclasses.replace(found, verdict=NOT_TESTED, rows_needed=None)
        going = going and found.verdict == WITHIN
