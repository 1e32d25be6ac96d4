"""The full head of a training part: what every other head is compared with.

Fitted in memory where the rows fit; where they do not, they are read again for every step.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from distill.sweeping.rows import Rows
from projections import Moments
from students import FittedHead, fit_path, fit_path_read


def full_heads(
    rows: Rows,
    labels: Int64[np.ndarray, " rows"],
    chosen: Int64[np.ndarray, " fit"],
    moments: Moments,
    *,
    l2: Sequence[float],
    max_iterations: int,
) -> tuple[FittedHead, ...]:
    """One head for each l2, largest first, fitted on the chosen rows, whose moments are given."""
    if rows.fits:
        return fit_path(
            rows.all()[chosen],
            labels[chosen],
            classes=moments.classes,
            l2=l2,
            max_iterations=max_iterations,
        )

    def reading() -> Iterator[tuple[Float32[np.ndarray, "block dim"], Int64[np.ndarray, " block"]]]:
        for start, features in rows.blocks():
            first, last = np.searchsorted(chosen, (start, start + len(features)))
            numbers = chosen[first:last]
            yield features[numbers - start], labels[numbers]

    return fit_path_read(
        reading,
        counts=moments.counts,
        mean=moments.mean,
        covariance=moments.covariance,
        l2=l2,
        max_iterations=max_iterations,
    )


def logits_of(
    heads: Sequence[FittedHead], rows: Rows, numbers: Int64[np.ndarray, " some"]
) -> list[Float32[np.ndarray, "some classes"]]:
    """Logits of each head for the rows of these ascending numbers, read once."""
    found = [np.empty((len(numbers), len(head.bias)), np.float32) for head in heads]
    for start, features in rows.blocks():
        first, last = np.searchsorted(numbers, (start, start + len(features)))
        block = features[numbers[first:last] - start]
        for head, into in zip(heads, found, strict=True):
            into[first:last] = head.logits(block)
    return found
