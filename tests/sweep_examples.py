"""Small labelled stores for the tests of the sweep: clouds that a few directions tell apart."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.config import HeadConfig, SweepConfig
from distill.findings import Sweep
from distill.progress import Progress
from distill.stages.sweep import sweep
from stores import FeatureStore
from tests.progress_recorder import Told
from tests.store_builder import make_store

CLASSES, DIM = 6, 24
NAMES = tuple(f"class {number}" for number in range(CLASSES))
SIZES = {"train": 300, "validation": 90, "test": 160}
HEAD = HeadConfig(l2=(1e-2, 1e-1), max_iterations=200)  # descents of few steps
SETTINGS = SweepConfig(kinds=("gaussian", "pca"), factors=(1, 6), seeds=2)

Stores = dict[str, FeatureStore]
Data = dict[str, tuple[np.ndarray, np.ndarray]]


def data(seed: int = 0, **changed: int) -> Data:
    """Rows whose variance falls by dimension, in classes that lie along the first few."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, DIM + 1) ** -0.5
    centres = 1.6 * rng.standard_normal((CLASSES, DIM)) * scales
    found = {}
    for split, rows in (SIZES | changed).items():
        labels = rng.permutation(np.arange(rows) % CLASSES)
        noise = rng.standard_normal((rows, DIM)) * scales
        found[split] = ((centres[labels] + noise).astype(np.float32), labels)
    return found


def stores_of(folder: Path, rows: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Stores:
    return {
        split: make_store(
            folder / "features.zarr" / split, features, labels, classes=NAMES, chunk_rows=32
        )
        for split, (features, labels) in rows.items()
    }


def swept(
    stores: Stores, folder: Path, *, progress: Progress | None = None, **settings: Any
) -> Sweep:
    """A sweep with its files in ``folder``."""
    return sweep(
        stores,
        folder=folder / "sweep",
        moments=folder / "moments",
        settings=SweepConfig(**(SETTINGS.model_dump() | settings)),
        head=HEAD,
        progress=progress or Told(),
    )


def timeless(found: Sweep) -> Sweep:
    """All but how long it took."""
    return dataclasses.replace(found, seconds=0.0)


def cells_of(folder: Path) -> dict[str, bytes]:
    """Every file of cross-validation, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("sweep/*/cells/*"))}
