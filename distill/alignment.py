"""From one teacher's features to another's: an affine map, near the identity where it can be.

Two networks fine-tuned from the same weights on nearly the same examples see nearly alike, so the
map is a ridge regression of what is *left*: with centred rows X, Y it is A = I + B, where B
minimises ||X B - (Y - X)||² + l ||B||². The penalty l, infinity included, is the one under which
rows that neither network learned come out nearest.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Float64

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, float("inf"))  # x the mean square of a column

Rows = Float32[np.ndarray, "rows dim"]


@final
@dataclass(frozen=True, eq=False)
class Alignment:
    """``rows @ matrix + shift``."""

    matrix: Float32[np.ndarray, "dim dim"]
    shift: Float32[np.ndarray, " dim"]

    def __call__(self, rows: Rows) -> Rows:
        """Rows (rows, dim) in the other teacher's coordinates."""
        mapped: Rows = rows @ self.matrix + self.shift
        return mapped


def align(given: Rows, wanted: Rows, *, unseen: tuple[Rows, Rows]) -> tuple[Alignment, float]:
    """The map from ``given`` to ``wanted``, row by row, and its R² on the ``unseen`` pair.

    R² is the share of the unseen wanted rows' variance that the mapped rows explain: 1 where they
    are the same, below 0 where their mean alone would be nearer.
    """
    mean, target = given.mean(axis=0, dtype=np.float64), wanted.mean(axis=0, dtype=np.float64)
    rows = given - mean
    values, vectors = np.linalg.eigh(rows.T @ rows)
    product = vectors.T @ (rows.T @ ((wanted - target) - rows))
    scale = max(float(values.mean()), np.finfo(np.float64).tiny)
    tried = [
        _solved(values, vectors, product, penalty * scale, mean, target) for penalty in PENALTIES
    ]
    scores = [explained(one(unseen[0]), unseen[1]) for one in tried]
    best = int(np.argmax(scores))
    return tried[best], scores[best]


def _solved(
    values: Float64[np.ndarray, " dim"],
    vectors: Float64[np.ndarray, "dim dim"],
    product: Float64[np.ndarray, "dim dim"],
    penalty: float,
    mean: Float64[np.ndarray, " dim"],
    target: Float64[np.ndarray, " dim"],
) -> Alignment:
    rest = vectors @ (product / (np.maximum(values, 0) + penalty)[:, None])
    matrix = np.eye(len(mean)) + rest
    shift = target - mean @ matrix
    return Alignment(matrix.astype(np.float32), shift.astype(np.float32))


def explained(found: Rows, wanted: Rows) -> float:
    """R² over all numbers: 1 - ||wanted - found||² / ||wanted - mean||²."""
    spread = np.square(wanted - wanted.mean(axis=0, dtype=np.float64)).sum()
    left = np.square(wanted.astype(np.float64) - found).sum()
    return float(1 - left / spread) if spread else float(left == 0)
