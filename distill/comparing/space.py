"""A common coordinate system: whether rows of two models mean the same, measured three ways.

All students of one map answer in the space of the teacher's projected rows. Then a gallery of one
model serves queries of another, and a head made on the teacher's rows works on a student's, also
for classes that the student was never taught.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from distill.metrics import accuracy
from distill.neighbours import distances_to, hits, majority, nearest_rows_faiss
from students import fit_head

NEIGHBOURS = 10


class Crossed(NamedTuple):
    """Queries of one model in the gallery of another."""

    recall: float  # share of the gallery model's own neighbours that are found
    accuracy: float  # of the neighbours' majority


class PluggedIn(NamedTuple):
    """A head that was made on one model's rows, scored on two models' rows of one test set."""

    own: float  # accuracy on rows of the model it was made on
    other: float  # and on the other's, put in its place


class Gallery(NamedTuple):
    """Rows of one model, all in one space, with their examples' ids and labels."""

    rows: Float32[np.ndarray, "rows dim"]
    ids: Int64[np.ndarray, " rows"]
    labels: Int64[np.ndarray, " rows"]


def crossed(
    gallery: Gallery,
    queries: Gallery,
    own: Float32[np.ndarray, "queries dim"],
    *,
    k: int = NEIGHBOURS,
) -> Crossed:
    """How well ``queries`` of another model do in ``gallery``.

    ``own`` are the rows that the gallery's model itself gives the query examples: their ``k``
    nearest are what should be found. An example is never its own neighbour, so gallery and
    queries may be of the same examples. Fewer than ``k`` other rows raise ``ValueError``.
    """
    most = int(np.isin(queries.ids, gallery.ids).any())
    if len(gallery.ids) - most < k:
        raise ValueError(f"a gallery of {len(gallery.ids)} rows has no {k} neighbours to find")
    truth = nearest_rows_faiss(own, queries.ids, gallery.rows, gallery.ids, k=k)
    found = nearest_rows_faiss(queries.rows, queries.ids, gallery.rows, gallery.ids, k=k)
    distances = distances_to(own, gallery.rows, found.rows)
    votes = majority(gallery.labels[found.rows])
    return Crossed(
        recall=float(hits(truth, distances).mean()), accuracy=accuracy(queries.labels, votes)
    )


def plug_in(
    train: Gallery,
    validation: Gallery,
    own: Gallery,
    other: Float32[np.ndarray, "tests dim"],
    *,
    classes: int,
    l2: Sequence[float],
    max_iterations: int = 500,
) -> PluggedIn:
    """Fit a head on one model's rows of some classes, and score it on another model's.

    Labels run from 0 to ``classes``, of the new classes alone; ``l2`` is chosen on validation.
    ``own`` and ``other`` are the two models' rows of the same test examples.
    """
    head = fit_head(
        train.rows,
        train.labels,
        validation.rows,
        validation.labels,
        classes=classes,
        l2=l2,
        max_iterations=max_iterations,
    )
    return PluggedIn(
        own=accuracy(own.labels, head.predict(own.rows)),
        other=accuracy(own.labels, head.predict(other)),
    )
