"""Small finished stores for the tests of stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stores import FeatureStore, StoreSpec, create_store, open_store


def make_store(
    path: Path,
    features: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    ids: np.ndarray | None = None,
    classes: tuple[str, ...] = (),
    made_by: Mapping[str, Any] | None = None,
    views: int = 1,
    chunk_rows: int = 7,  # divides nothing
) -> FeatureStore:
    """A store of these rows; example i has id 10 i + 3 unless told."""
    rows = len(features)
    numbers = np.repeat(np.arange(rows // views) * 10 + 3, views) if ids is None else ids
    spec = StoreSpec(
        rows=rows,
        dim=features.shape[1],
        dtype=features.dtype.name,
        labelled=labels is not None,
        classes=classes,
        views=views,
        chunk_rows=chunk_rows,
        made_by=dict(made_by or {}),
    )
    with create_store(path, spec) as writer:
        for index in writer.pending():
            start, stop = spec.rows_of(index)
            writer.write(
                index,
                ids=numbers[start:stop],
                features=features[start:stop],
                labels=None if labels is None else labels[start:stop],
            )
    return open_store(path)
