"""Training parts: one pass over the rows gives the moments of every fold, and the sampled rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import final

import numpy as np
from jaxtyping import Float32, Int64

from distill.sweeping.folds import FOLDS, Partition, Split, partition
from distill.sweeping.geometry import Geometry, geometry, sampled
from distill.sweeping.rows import Rows
from projections import Moments, gather_fold_moments


@final
@dataclass(frozen=True, eq=False)
class Folded:
    """One partition of the rows: for each fold its moments, and a sample of it as it is."""

    partition: Partition
    moments: tuple[Moments, ...]  # of each fold's rows, those that calibrate left out
    geometries: tuple[Geometry, ...]

    def split(self, held: int) -> Split:
        """Rows to fit on, to calibrate on and to score when one fold is held out."""
        return self.partition.split(held)

    def training_moments(self, held: int) -> Moments:
        """Moments of the rows to fit on: the other folds', merged. No held-out row is in them."""
        return reduce(Moments.merge, (m for fold, m in enumerate(self.moments) if fold != held))


def fold_rows(
    rows: Rows,
    labels: Int64[np.ndarray, " rows"],
    number: int,
    *,
    classes: int,
    neighbours: int,
) -> Folded:
    """Draw the partition of this number, and read the rows once."""
    drawn = partition(labels, number)
    samples = [
        sampled(np.flatnonzero(drawn.fold == fold), seed=number * FOLDS + fold)
        for fold in range(FOLDS)
    ]
    taken = [np.empty((len(sample), rows.dim), np.float32) for sample in samples]

    def blocks() -> Iterator[
        tuple[
            Float32[np.ndarray, "some dim"],
            Int64[np.ndarray, " some"],
            Int64[np.ndarray, " some"],
        ]
    ]:
        for start, features in rows.blocks():
            stop = start + len(features)
            for sample, into in zip(samples, taken, strict=True):
                here = (sample >= start) & (sample < stop)
                into[here] = features[sample[here] - start]
            fits = ~drawn.calibrates[start:stop]
            yield features[fits], labels[start:stop][fits], drawn.fold[start:stop][fits]

    moments = gather_fold_moments(blocks(), classes=classes, folds=FOLDS)
    return Folded(
        partition=drawn,
        moments=moments,
        geometries=tuple(
            geometry(sample, into, neighbours=neighbours, seed=number * FOLDS + fold)
            for fold, (sample, into) in enumerate(zip(samples, taken, strict=True))
        ),
    )
