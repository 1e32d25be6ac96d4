"""What is done to targets before they are learned: pure functions of arrays."""

from collections.abc import Iterable

import numpy as np
import scipy.special
from jaxtyping import Float, Float32, Float64, Int64

from students.errors import StudentError

Block = tuple[Float[np.ndarray, "_ _"], Int64[np.ndarray, " _"]]  # (rows, k) and their labels


def class_means(blocks: Iterable[Block], *, classes: int) -> Float64[np.ndarray, "classes k"]:
    """Mean row of each class in one pass over (rows, labels); zeros for a class without rows.

    Rows of a label below 0 are of no class. ``StudentError`` for a label of none of the
    ``classes``, and for no rows at all.
    """
    counts, sums = np.zeros(classes), None
    for rows, labels in blocks:
        if labels.max(initial=-1) >= classes:
            raise StudentError(f"a row has label {labels.max()}, but there are {classes} classes")
        if sums is None:
            sums = np.zeros((classes, rows.shape[1]))
        known = labels >= 0
        np.add.at(sums, labels[known], rows[known])
        counts += np.bincount(labels[known], minlength=classes)
    if sums is None:
        raise StudentError("targets without rows have no class means")
    means: Float64[np.ndarray, "classes k"] = sums / np.maximum(counts, 1)[:, None]
    return means


def label_shrunk(
    rows: Float[np.ndarray, "rows k"],
    labels: Int64[np.ndarray, " rows"],
    means: Float[np.ndarray, "classes k"],
    *,
    alpha: float,
) -> Float32[np.ndarray, "rows k"]:
    """(1 - α) z + α μ_y: targets drawn towards the mean of their class.

    α 0 leaves them as they are, 1 leaves one target a class. Rows of a label below 0 stay.
    """
    if not 0 <= alpha <= 1:
        raise StudentError(f"targets are shrunk by a share between 0 and 1, got {alpha}")
    shares = np.where(labels >= 0, alpha, 0.0)[:, None]
    drawn: Float64[np.ndarray, "rows k"] = (1 - shares) * rows + shares * means[labels]
    return drawn.astype(np.float32)


def top_logits(
    logits: Float[np.ndarray, "rows classes"], top: int
) -> Float32[np.ndarray, "rows classes"]:
    """Logarithms of the ``top`` highest chances of each row, the rest shared by all others evenly.

    What may be stored of a row of logits instead of all of them (dataset reinforcement, arXiv
    2303.08983). Of equal chances the first classes are kept; ``StudentError`` for less than 1.
    """
    if top < 1:
        raise StudentError(f"at least 1 of a row's logits is kept, got {top}")
    logs: Float64[np.ndarray, "rows classes"] = scipy.special.log_softmax(
        logits.astype(np.float64), axis=1
    )
    others = logits.shape[1] - top
    if others < 1:
        return logs.astype(np.float32)
    order = np.argsort(-logs, axis=1, kind="stable")
    kept, left = order[:, :top], order[:, top:]
    rest = scipy.special.logsumexp(np.take_along_axis(logs, left, axis=1), axis=1, keepdims=True)
    found = np.broadcast_to(rest - np.log(others), logs.shape).copy()
    np.put_along_axis(found, kept, np.take_along_axis(logs, kept, axis=1), axis=1)
    return found.astype(np.float32)


def averaged_over_views(
    rows: Float[np.ndarray, "rows k"], views: int
) -> Float32[np.ndarray, "examples k"]:
    """Mean over each example's ``views`` rows, which stand together.

    ``StudentError`` for rows that are no whole number of examples.
    """
    if views < 1 or len(rows) % views:
        raise StudentError(f"{len(rows)} rows are not {views} views each of some examples")
    together = rows.reshape(-1, views, rows.shape[1])
    mean: Float64[np.ndarray, "examples k"] = together.mean(axis=1, dtype=np.float64)
    return mean.astype(np.float32)
