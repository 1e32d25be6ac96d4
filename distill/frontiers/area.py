"""Area under accuracy against budget, and where accuracy falls although the budget rises.

A budget is a share of the dense network's FLOPs. Between measured shares accuracy is taken to be
linear, and the area from a floor to 1 is divided by 1 - floor: it is the mean accuracy of budgets
drawn evenly from there. It is linear in what each row says, so rows are weighed and compared one by
one: a row's share of the area is the weighted sum of its hits.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64

from distill.findings import Difference, Falls, Interval
from distill.metrics import Z

_SLACK = 1e-6  # of a share: the same FLOPs, counted in another order
_EVEN = 1e-12  # of an accuracy: equal but for rounding

Hits = Bool[np.ndarray, "points seeds rows"]
Others = Bool[np.ndarray, "other_points other_seeds rows"]  # the same rows, answered otherwise


def common_floor(curves: Iterable[Sequence[float]]) -> float:
    """The largest of the curves' smallest shares: from there on each has a value."""
    return max(min(shares) for shares in curves)


def area_weights(shares: Sequence[float], floor: float) -> Float64[np.ndarray, " points"]:
    """What each point weighs in the area from ``floor`` to 1; the weights add up to 1.

    By the trapezoid rule. ``ValueError`` for shares that do not rise, or do not reach from the
    floor to 1.
    """
    if any(right <= left for left, right in pairwise(shares)):
        raise ValueError(f"shares of FLOPs rise from point to point, got {list(shares)}")
    if not shares or shares[0] > floor + _SLACK or shares[-1] < 1 - _SLACK or floor >= 1 - _SLACK:
        raise ValueError(f"points at {list(shares)} do not reach from a floor of {floor} to 1")
    weights = np.zeros(len(shares))
    for at, (left, right) in enumerate(pairwise(shares)):
        begin = max(left, floor)
        if begin >= right:
            continue
        width, beyond = right - begin, (begin - left) / (right - left)
        # the value where it begins is linear between the two
        weights[at] += width / 2 * (1 - beyond)
        weights[at + 1] += width / 2 * (1 + beyond)
    found: Float64[np.ndarray, " points"] = weights / weights.sum()
    return found


def areas(
    shares: Sequence[float], hits: Bool[np.ndarray, "points seeds rows"], floor: float
) -> Float64[np.ndarray, " seeds"]:
    """Area of each seed."""
    found: Float64[np.ndarray, " seeds"] = _rows(shares, hits, floor).mean(axis=1)
    return found


def area_behind(
    ours: tuple[Sequence[float], Hits],
    theirs: tuple[Sequence[float], Others],
    *,
    floor: float,
    name: str,
) -> Difference:
    """Area of ``ours`` less that of ``theirs``, both shares and hits, as ``rows_behind``."""
    return rows_behind(_rows(*ours, floor), _rows(*theirs, floor), name=name)


def rows_behind(
    ours: Float64[np.ndarray, "seeds rows"],
    theirs: Float64[np.ndarray, "other_seeds rows"],
    *,
    name: str,
) -> Difference:
    """Mean of ``ours`` less that of ``theirs``, called ``name``; 95 %.

    Rows are paired, seeds are not: the variance is that of the rows' differences of means over
    seeds, and of each side's seeds where it has several.
    """
    apart = ours.mean(axis=0) - theirs.mean(axis=0)
    variance = float(apart.var()) / len(apart) + _of_seeds(ours) + _of_seeds(theirs)
    value, half = float(apart.mean()), _quantile(variance, ours, theirs) * variance**0.5
    return Difference(
        against=name, value=value, interval=Interval(low=value - half, high=value + half)
    )


def _rows(shares: Sequence[float], hits: Hits, floor: float) -> Float64[np.ndarray, "seeds rows"]:
    """Each row's share of the area."""
    weights = area_weights(shares, floor)
    found: Float64[np.ndarray, "seeds rows"] = np.tensordot(weights, hits, axes=1)
    return found


def _of_seeds(rows: Float64[np.ndarray, "seeds rows"]) -> float:
    """Variance of the mean over seeds; none is seen of a single one."""
    seeds = len(rows)
    return float(rows.mean(axis=1).var(ddof=1)) / seeds if seeds > 1 else 0.0


def _quantile(variance: float, *sides: Float64[np.ndarray, "_ _"]) -> float:
    """Student's, its freedom by Satterthwaite's formula; the normal's where seeds vary not."""
    from scipy.special import stdtrit

    shares = [(_of_seeds(rows), len(rows) - 1) for rows in sides]
    squared = sum(part**2 / freedom for part, freedom in shares if part > 0)
    return float(stdtrit(variance**2 / squared, 0.975)) if squared > 0 else Z


def falls(shares: Sequence[float], accuracies: Sequence[float]) -> Falls:
    """Steps to a larger share at which accuracy is lower."""
    drops = [
        (before - after, share)
        for (before, after), share in zip(pairwise(accuracies), shares[1:], strict=True)
        if before - after > _EVEN
    ]
    largest, share = max(drops, default=(0.0, 1.0))
    return Falls(count=len(drops), of=len(accuracies) - 1, largest=largest, share=share)
