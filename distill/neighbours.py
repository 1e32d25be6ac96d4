"""Exact nearest neighbours in blocks of rows: NumPy defines what is right, faiss must agree.

A neighbour is a row of another example: rows with the query's own id are left out, wherever they
stand in the order (with duplicates the query itself need not come first). Distances are squared
and Euclidean. Equal distances are ordered by row number.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float32, Int64

SPARE = 8  # candidates asked of faiss beyond k, as its own distances are rounded
TIED = 1e-5  # relative: float32 distances this near to one another are equal


@final
@dataclass(frozen=True, eq=False)
class Neighbours:
    """For each query its nearest rows, the nearest first; row -1 at distance inf is none."""

    rows: Int64[np.ndarray, "queries k"]
    distances: Float32[np.ndarray, "queries k"]

    def merged(self, other: "Neighbours") -> "Neighbours":
        """Nearest of both tables, as many as this one holds for a query."""
        return _sorted(
            np.concatenate([self.rows, other.rows], axis=1),
            np.concatenate([self.distances, other.distances], axis=1),
            k=self.rows.shape[1],
        )


def no_neighbours(queries: int, k: int) -> Neighbours:
    """Empty table, to merge the first block's into."""
    return Neighbours(
        np.full((queries, k), -1, np.int64), np.full((queries, k), np.inf, np.float32)
    )


def nearest_rows(
    queries: Float32[np.ndarray, "queries dim"],
    query_ids: Int64[np.ndarray, " queries"],
    rows: Float32[np.ndarray, "rows dim"],
    ids: Int64[np.ndarray, " rows"],
    *,
    k: int,
    start: int = 0,
) -> Neighbours:
    """Nearest rows by definition, in float64. Row numbers count from ``start``."""
    distances = np.stack(
        [((rows.astype(np.float64) - query) ** 2).sum(axis=1) for query in queries]
    )
    distances[query_ids[:, None] == ids] = np.inf
    numbers = np.broadcast_to(np.arange(start, start + len(rows)), distances.shape)
    return no_neighbours(len(queries), k).merged(
        Neighbours(np.where(np.isfinite(distances), numbers, -1), distances.astype(np.float32))
    )


def nearest_rows_faiss(
    queries: Float32[np.ndarray, "queries dim"],
    query_ids: Int64[np.ndarray, " queries"],
    rows: Float32[np.ndarray, "rows dim"],
    ids: Int64[np.ndarray, " rows"],
    *,
    k: int,
    start: int = 0,
) -> Neighbours:
    """Find what ``nearest_rows`` finds by faiss's exhaustive search. Copies ``rows`` once.

    faiss computes |q|² + |x|² - 2 qx, which loses its digits far from the origin: it is given
    rows less their mean, asked for a few neighbours more, and these are measured again directly.
    """
    faiss = _faiss()
    own = int(np.unique(ids, return_counts=True)[1].max())
    centre = rows.mean(axis=0)
    _, found = faiss.knn(queries - centre, rows - centre, min(k + own + SPARE, len(rows)))
    distances = distances_to(queries, rows, found)
    none = (found < 0) | (query_ids[:, None] == ids[found])
    distances[none] = np.inf
    return no_neighbours(len(queries), k).merged(
        Neighbours(np.where(none, -1, found + start), distances)
    )


def distances_to(
    queries: Float32[np.ndarray, "queries dim"],
    rows: Float32[np.ndarray, "rows dim"],
    numbers: Int64[np.ndarray, "queries k"],
) -> Float32[np.ndarray, "queries k"]:
    """Squared distance of each query to the rows named for it; inf where the number is negative.

    Equal rows get equal distances, to the bit.
    """
    faiss = _faiss()
    queries, rows, numbers = (np.ascontiguousarray(a) for a in (queries, rows, numbers))
    if numbers.size and numbers.max() >= len(rows):
        raise IndexError(f"row {numbers.max()} of {len(rows)}")
    distances = np.empty(numbers.shape, np.float32)
    faiss.fvec_L2sqr_by_idx(
        *(faiss.swig_ptr(a) for a in (distances, queries, rows, numbers)),
        rows.shape[1],
        *numbers.shape,
    )
    distances[numbers < 0] = np.inf
    return distances


def pair_distances(
    rows: Float32[np.ndarray, "rows dim"],
    first: Int64[np.ndarray, " pairs"],
    second: Int64[np.ndarray, " pairs"],
) -> Float32[np.ndarray, " pairs"]:
    """Squared distance between row ``first[i]`` and row ``second[i]``, without copying either."""
    faiss = _faiss()
    rows, first, second = (np.ascontiguousarray(a) for a in (rows, first, second))
    for numbers in (first, second):
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(rows):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {len(rows)}")
    distances = np.empty(len(first), np.float32)
    at, left, right, into = (faiss.swig_ptr(a) for a in (rows, first, second, distances))
    faiss.pairwise_indexed_L2sqr(rows.shape[1], len(first), at, left, at, right, into)
    return distances


def hits(
    truth: Neighbours, distances: Float32[np.ndarray, "queries k"]
) -> Bool[np.ndarray, "queries k"]:
    """Which found rows, ``distances`` away in the reference, are true neighbours.

    A row is one when it is no farther than the k-th true neighbour: of rows that tie for the last
    place each counts. A row at distance inf (nothing found) never does.
    """
    farthest = truth.distances[:, -1:]
    counted: Bool[np.ndarray, "queries k"] = np.isfinite(distances) & (
        distances <= farthest * np.float32(1 + TIED)
    )
    return counted


def majority(labels: Int64[np.ndarray, "queries k"]) -> Int64[np.ndarray, " queries"]:
    """Class most often among each query's neighbours, nearest first; -1 is no neighbour.

    Of equally frequent classes the one whose nearest member is nearest. -1 where none has a class.
    """
    votes = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    votes[labels < 0] = 0
    most: Int64[np.ndarray, " queries"] = labels[np.arange(len(labels)), votes.argmax(axis=1)]
    return most


def _faiss() -> Any:
    """Load faiss when first needed; untyped, as its stubs lack the functions called here."""
    import faiss

    return faiss


def _sorted(
    rows: Int64[np.ndarray, "queries some"],
    distances: Float32[np.ndarray, "queries some"],
    *,
    k: int,
) -> Neighbours:
    """``k`` nearest, in order of distance, then of row."""
    order = np.lexsort((rows, distances), axis=1)[:, :k]
    return Neighbours(
        np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)
    )
