"""Moments of the train split: gathered once, kept for the sweep and for whoever projects it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from distill.sweeping.rows import Rows
from projections import Moments, ProjectionError, gather_moments, load_moments, save_moments


def train_moments(
    train: Rows, labels: Int64[np.ndarray, " rows"] | None, *, classes: int, folder: Path
) -> Moments:
    """Moments of all rows of one store, from ``folder`` where its digest is known there.

    Unlabelled rows are one class. A file that cannot be read is made again.
    """
    (store,) = train.stores
    name = store.digest.removeprefix("sha256:")[:16]
    path = folder / f"{name}-{classes}.safetensors"
    if path.is_file():
        try:
            return load_moments(path)
        except ProjectionError:
            path.unlink()

    def blocks() -> Iterator[
        tuple[Float32[np.ndarray, "some dim"], Int64[np.ndarray, " some"] | None]
    ]:
        for start, features in train.blocks():
            stop = start + len(features)
            yield features, None if labels is None else labels[start:stop]

    found = gather_moments(blocks(), classes=classes)
    save_moments(path, found)
    return found
