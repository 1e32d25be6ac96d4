"""Repeated stratified cross-validation: which rows a seed fits on, and which it is scored on.

Seed s holds out fold s % FOLDS of partition s // FOLDS, so that five seeds score every row once.
One row in eleven of what is left sets the temperature of the probabilities; maps and heads are
fitted on the rest. A partition is drawn from its number and the labels alone.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Int64

from distill.errors import StageError

FOLDS = 5
CALIBRATING = 11  # no multiple of FOLDS, so that these rows are spread over the folds
SPARED = 5  # rows of a class, up to which none of them calibrates
FEWEST = 2 * FOLDS  # rows of train and validation together


@final
@dataclass(frozen=True, eq=False)
class Partition:
    """Folds of all rows, and which of them set temperatures where they are not held out."""

    fold: Int64[np.ndarray, " rows"]
    calibrates: Bool[np.ndarray, " rows"]

    def split(self, held: int) -> "Split":
        """The three parts when fold ``held`` is held out; together they are all rows."""
        out = self.fold == held
        return Split(
            fit=np.flatnonzero(~out & ~self.calibrates),
            calibrate=np.flatnonzero(~out & self.calibrates),
            held=np.flatnonzero(out),
        )


@final
@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers, ascending; no row is in two of them."""

    fit: Int64[np.ndarray, " fit"]
    calibrate: Int64[np.ndarray, " calibrate"]
    held: Int64[np.ndarray, " held"]


def place_of(seed: int) -> tuple[int, int]:
    """Partition and fold that a seed holds out."""
    return divmod(seed, FOLDS)


def partition(labels: Int64[np.ndarray, " rows"], number: int) -> Partition:
    """Deal the rows of each class, shuffled, to the folds in turn, one class after another.

    A class of n rows has floor(n / FOLDS) or one more in every fold. ``StageError`` for fewer
    than ten rows.
    """
    if len(labels) < FEWEST:
        raise StageError(
            f"train and validation have {len(labels)} rows together; cross-validation needs at "
            f"least {FEWEST}"
        )
    place = places(labels, number)
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    calibrates = (place % CALIBRATING == CALIBRATING - 1) & (counts[which] > SPARED)
    return Partition(fold=place % FOLDS, calibrates=calibrates)


def places(labels: Int64[np.ndarray, " rows"], seed: int) -> Int64[np.ndarray, " rows"]:
    """Where each row comes when they are dealt: class by class, shuffled within each.

    ``places % n`` are n stratified folds: a class of m rows has floor(m / n) or one more in each.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
    place = np.empty(len(labels), np.int64)
    place[dealt] = np.arange(len(labels))
    return place


def fewest_to_fit(labels: Int64[np.ndarray, " rows"], seeds: int) -> int:
    """The least number of rows that any of the seeds fits on."""
    drawn = [partition(labels, number) for number in range(place_of(seeds - 1)[0] + 1)]
    return min(
        len(one.split(fold).fit)
        for number, one in enumerate(drawn)
        for fold in range(FOLDS)
        if number * FOLDS + fold < seeds
    )
