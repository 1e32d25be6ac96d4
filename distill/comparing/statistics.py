"""What the test rows and several seeds say of two ways to teach, and how fast each one learned.

The unit is a matrix of hits (seeds, rows): seed *s* of both ways starts from the same weights and
sees the same rows in the same order, and every seed answers the same test rows. So seeds and rows
are drawn alike for both, and only where they differ counts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int8, Int64

from distill.certify import DRAWS, UNSEEN, bounds, resampled, standard_error
from distill.findings import Interval
from distill.metrics import worst_class

TWO_SIDED = 0.975  # of each bound, for an interval of 95 %
ALPHA = 0.05
AHEAD, BEHIND, NO_DIFFERENCE = "ahead", "behind", "no difference shown"
FINAL_SHARE = 0.95


class Compared(NamedTuple):
    """Accuracy of one way minus that of another, over seeds and test rows."""

    value: float
    interval: Interval
    p: float


class Reached(NamedTuple):
    """When a training first came near its end."""

    epoch: int
    step: int
    seconds: float


def compare(
    ours: Bool[np.ndarray, "seeds rows"],
    theirs: Bool[np.ndarray, "seeds rows"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Compared:
    """Difference in accuracy, its 95 % interval and two-sided p-value, paired.

    A hierarchical bootstrap draws seeds, then rows. By itself it is too sure of a handful of
    seeds, and of a handful of rows on which the two differ: the interval is the widest, and p the
    largest, of its own, Student's and the score test's (``distill.certify``).
    """
    gained: Int8[np.ndarray, "seeds rows"] = ours.astype(np.int8) - theirs.astype(np.int8)
    low, high = bounds(gained, draws=draws, seed=seed, level=TWO_SIDED)
    return Compared(
        value=float(gained.mean()),
        interval=Interval(low=low, high=high),
        p=p_value(gained, draws=draws, seed=seed),
    )


def p_value(lost: Int8[np.ndarray, "seeds rows"], *, draws: int = DRAWS, seed: int = 0) -> float:
    """Chance, at most, of a mean at least this far from 0 where there is no difference."""
    from scipy.special import ndtr, stdtr

    drawn = resampled(lost, draws=draws, seed=seed)
    beyond = min(int(np.sum(drawn <= 0)), int(np.sum(drawn >= 0)))
    found = [2 * (1 + beyond) / (draws + 1)]
    up, down = (float(np.count_nonzero(lost == sign)) / len(lost) for sign in (1, -1))
    # the score test at a difference of 0 is McNemar's, a part of a row added to the smaller side
    apart = max(0.0, abs(up - down) - UNSEEN)
    found.append(2 * float(ndtr(-apart / math.sqrt(up + down + UNSEEN))))
    if len(lost) > 1:
        error, freedom = standard_error(lost)
        mean = abs(float(lost.mean()))
        if error > 0:
            found.append(2 * float(stdtr(freedom, -mean / error)))
    return min(1.0, max(found))


def holm(values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values of a family of tests, in their order (Holm 1979).

    The smallest of m is multiplied by m, the next by m - 1, ...; none is below one before it.
    """
    order = np.argsort(np.asarray(values, np.float64), kind="stable")
    adjusted, floor = [0.0] * len(values), 0.0
    for place, at in enumerate(order):
        floor = max(floor, min(1.0, (len(values) - place) * float(values[at])))
        adjusted[at] = floor
    return tuple(adjusted)


def verdict(value: float, adjusted: float) -> str:
    """What may be said of a difference whose p-value was adjusted for its family."""
    if adjusted >= ALPHA or value == 0:
        return NO_DIFFERENCE
    return AHEAD if value > 0 else BEHIND


def reached(history: Sequence[Mapping[str, Any]], *, share: float = FINAL_SHARE) -> Reached | None:
    """First epoch with at least ``share`` of the final validation accuracy; None of no epochs.

    Final is that of the epoch whose weights are kept: the best. ``history`` has one entry an
    epoch, as ``metrics.jsonl`` does. Seconds include the evaluations.
    """
    if not history:
        return None
    goal = share * max(float(entry["validation_accuracy"]) for entry in history)
    first = next(entry for entry in history if float(entry["validation_accuracy"]) >= goal)
    return Reached(
        epoch=int(first["epoch"]), step=int(first["step"]), seconds=float(first["seconds"])
    )


def worst_class_over_seeds(
    labels: Int64[np.ndarray, " rows"], predicted: Int64[np.ndarray, "seeds rows"]
) -> tuple[int, float]:
    """Class that is hit least often by all seeds together, and that share.

    A mean of the seeds' own worst classes would be lower the more they differ by chance.
    """
    return worst_class(np.tile(labels, len(predicted)), predicted.ravel())
