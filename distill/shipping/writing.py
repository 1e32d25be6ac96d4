"""An exported file is held against the student itself, and then kept or thrown away."""

from collections.abc import Sequence

import numpy as np

from distill.errors import StageError
from distill.shipping.graphs import Graph, largest_difference

TOLERANCE = 1e-4  # of the largest number of each result
Results = tuple[np.ndarray, ...]


def check(graph: Graph, found: Sequence[Results]) -> float:
    """Largest difference of the results at ``BATCHES`` from the student's; ``StageError`` beyond.

    Relative to the largest number of each result.
    """
    worst = max(
        largest_difference(graph.expected(batch), results)
        for batch, results in zip(graph.batches(), found, strict=True)
    )
    if worst > TOLERANCE:
        raise StageError(
            f"the exported file does not give what the student gives: off by {worst:.1e} of the "
            f"largest number, {TOLERANCE:.0e} are allowed; nothing was kept"
        )
    return worst
