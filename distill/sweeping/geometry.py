"""What a map does to distances, measured on a sample of rows that it was not fitted on."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Int64

from distill.metrics import ratios
from distill.neighbours import (
    Neighbours,
    distances_to,
    hits,
    nearest_rows_faiss,
    pair_distances,
)

SAMPLE = 1000  # rows among which neighbours are looked for
QUERIES = 500
PAIRS = 5000
SAFE = (1e-12, 1e12)  # rows whose largest number lies beyond are scaled, exactly


@final
@dataclass(frozen=True, eq=False)
class Geometry:
    """Distances and neighbours of sampled rows before any map."""

    sample: Int64[np.ndarray, " sample"]  # row numbers
    rows: Float32[np.ndarray, "sample dim"]  # over 2^exponent, as all that is measured here
    exponent: int
    first: Int64[np.ndarray, " pairs"]
    second: Int64[np.ndarray, " pairs"]
    before: Float32[np.ndarray, " pairs"]
    truth: Neighbours
    neighbours: int

    def measure(
        self, mapped: Float32[np.ndarray, "sample k"]
    ) -> tuple[float | None, float | None, float | None]:
        """Mean and spread of squared distance after over before, and recall of true neighbours.

        None where the sample has no two different rows; no recall where all others are neighbours,
        since nothing could be missed.
        """
        if self.neighbours < 1:
            return None, None, None
        mapped, exponent = _safe(mapped)
        ids = np.arange(len(mapped))
        asked = ids[: len(self.truth.rows)]
        after = pair_distances(mapped, self.first, self.second)
        found = nearest_rows_faiss(mapped[asked], asked, mapped, ids, k=self.neighbours)
        recalled = hits(self.truth, distances_to(self.rows[asked], self.rows, found.rows))
        recall = float(recalled.mean()) if self.neighbours < len(mapped) - 1 else None
        kept = np.ldexp(ratios(self.before, after), 2 * (exponent - self.exponent))
        if not len(kept):
            return None, None, recall
        return float(kept.mean()), float(kept.std()), recall


def sampled(held: Int64[np.ndarray, " held"], *, seed: int) -> Int64[np.ndarray, " sample"]:
    """Which of the held-out rows are measured."""
    return np.random.default_rng(seed).permutation(held)[:SAMPLE]


def geometry(
    sample: Int64[np.ndarray, " sample"],
    rows: Float32[np.ndarray, "sample dim"],
    *,
    neighbours: int,
    seed: int,
) -> Geometry:
    """Measure the rows as they are; ``sample`` are their numbers."""
    rng = np.random.default_rng(seed)
    rows, exponent = _safe(rows)
    count = len(rows)
    neighbours = min(neighbours, count - 1)
    first = rng.integers(0, count, PAIRS)
    second = (first + rng.integers(1, max(count, 2), PAIRS)) % count
    ids = np.arange(count)
    asked = ids[:QUERIES]
    return Geometry(
        sample=sample,
        rows=rows,
        exponent=exponent,
        first=first,
        second=second,
        before=pair_distances(rows, first, second),
        truth=nearest_rows_faiss(rows[asked], asked, rows, ids, k=max(neighbours, 1)),
        neighbours=neighbours,
    )


def _safe(
    rows: Float32[np.ndarray, "sample dim"],
) -> tuple[Float32[np.ndarray, "sample dim"], int]:
    """Rows over a power of two, and its exponent, so that float32 holds their squared distances."""
    largest = float(np.abs(rows).max())
    if largest == 0 or SAFE[0] < largest < SAFE[1]:
        return rows, 0
    exponent = int(np.frexp(largest)[1])
    return np.ldexp(rows, -exponent), exponent
