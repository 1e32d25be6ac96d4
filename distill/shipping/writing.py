"""An exported file is held against the student itself, and then kept or thrown away."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from distill.errors import StageError
from distill.shipping.graphs import Graph, largest_difference

TOLERANCE = 1e-4  # of the largest number of each result
Results = tuple[np.ndarray, ...]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A hidden name to write to; it becomes ``path`` when all went well, else it goes."""
    scratch = path.with_name(f".{path.name}.partial")
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


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
