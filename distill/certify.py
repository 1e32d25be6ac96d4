"""Certification: whether a compressed head is at most so much worse than the full one.

A *loss* is +1 on a row that the full head hits and the other misses, -1 the other way round, 0
where both do the same: its mean is the accuracy that is lost. Non-inferiority ("at most one point
worse") is shown when the one-sided 95 % upper bound of that mean is within the tolerance, refuted
when the lower bound is beyond it.

A bound is bootstrapped over rows and over seeds of the map, and reaches no less far than two that
know what a bootstrap cannot see. The score bound of a paired difference (Tango, 1998,
doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B) knows of losses that few rows
have not shown: with ``UNSEEN`` of a row added, exact enumeration finds no more than 5 % of false
"within" for any rows, tolerance and discordance tried, where the bootstrap alone gives up to 14 %.
Student's t knows that a handful of seeds say little of their own spread.
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
UNSEEN = 0.3  # of a lost row, added to those that are seen
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
    lost: Int8[np.ndarray, "seeds rows"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """One-sided lower and upper bounds of the mean loss: the widest of three."""
    from scipy.special import ndtri, stdtrit

    drawn = resampled(lost, draws=draws, seed=seed)
    low, high = (float(np.quantile(drawn, share)) for share in (1 - level, level))
    seeds, rows = lost.shape
    up, down = (float(np.count_nonzero(lost == sign)) / seeds for sign in (1, -1))
    z = float(ndtri(level))
    low, high = min(low, -score_bound(down, up, rows, z)), max(high, score_bound(up, down, rows, z))
    if seeds > 1:
        error, freedom = standard_error(lost)
        loss, half = float(lost.mean()), float(stdtrit(freedom, level)) * error
        low, high = min(low, loss - half), max(high, loss + half)
    return low, high


def score_bound(lost: float, gained: float, rows: int, z: float = Z) -> float:
    """One-sided upper bound of the mean loss by Tango's score test, ``UNSEEN`` rows added.

    Counts need not be whole: over several seeds they are means. With counts swapped, minus the
    bound is the lower one.
    """
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _score(lost + UNSEEN, gained, rows, middle) <= -z:
            high = middle
        else:
            low = middle
    return high


def _score(lost: float, gained: float, rows: int, loss: float) -> float:
    """Loss seen less supposed, over its standard error at the likeliest shares with that loss."""
    linear = -lost - gained + (2 * rows - lost + gained) * loss
    root = math.sqrt(max(0.0, linear**2 + 8 * rows * gained * loss * (1 - loss)))
    share = (root - linear) / (4 * rows)  # of gained rows
    variance = rows * (2 * share + loss * (1 - loss))
    return (lost - gained - rows * loss) / math.sqrt(max(variance, 1e-300))


def standard_error(lost: Int8[np.ndarray, "seeds rows"]) -> tuple[float, float]:
    """Of the mean loss over several seeds, and its degrees of freedom (inf: the normal's).

    Variances of rows and of seeds are added up, their freedom by Satterthwaite's formula.
    """
    seeds, rows = lost.shape
    over_rows = float(lost.mean(axis=0).var()) / rows
    over_seeds = float(lost.mean(axis=1).var(ddof=1)) / seeds
    total = over_rows + over_seeds
    freedom = (seeds - 1) * (total / over_seeds) ** 2 if over_seeds else math.inf
    return math.sqrt(total), freedom


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

    As many as the score bound asks for, and the normal approximation: z² (v / rows + s² / seeds)
    is the squared distance from loss to tolerance, v the variance over rows of the mean over
    seeds, s² that of the seeds' losses. None where no number of rows decides: the loss is the
    tolerance itself, or seeds differ too much.
    """
    seeds, rows = lost.shape
    over_seeds: Float64[np.ndarray, " rows"] = lost.mean(axis=0)
    loss = float(over_seeds.mean())
    if abs(loss - tolerance) < EQUAL:
        return None
    between = float(lost.mean(axis=1).var(ddof=1)) / seeds if seeds > 1 else 0.0
    room = ((loss - tolerance) / Z) ** 2 - between
    if room <= 0:
        return None
    up, down = (float(np.mean(lost == sign)) for sign in (1, -1))

    def decided(count: int) -> bool:
        if loss < tolerance:
            return score_bound(up * count, down * count, count) <= tolerance
        return -score_bound(down * count, up * count, count) > tolerance

    least = max(rows + 1, math.ceil(float(over_seeds.var()) / room))
    return _first(decided, least)


def _first(decided: Callable[[int], bool], least: int) -> int:
    """First number from ``least`` on, for what holds from some number on."""
    low, high = least - 1, least
    while not decided(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def allowed_discordance(rows: int, tolerance: float) -> float:
    """Largest share of discordant rows, half of them lost, that still certifies; 0 if none does."""
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        within = score_bound(share * rows / 2, share * rows / 2, rows) <= tolerance
        low, high = (share, high) if within else (low, share)
    return low


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
