"""Small stores and targets for the tests of the project stage."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from distill.stages.project import Target, dim_for_factor
from projections import make_projection
from stores import FeatureStore, StoreSpec, create_store, open_store

DIM, CHUNK = 24, 10
ROWS = {"train": 137, "validation": 20, "test": 7}  # many chunks, exactly two, less than one


def filled(path: Path, features: np.ndarray, **options: Any) -> FeatureStore:
    """A finished store of these features; ids are 1000, 1003, …, labels count modulo 3."""
    spec = StoreSpec(
        rows=len(features),
        dim=features.shape[1],
        dtype=features.dtype.name,
        **{"chunk_rows": CHUNK, "made_by": {"teacher": "t"}, "classes": ("a", "b", "c"), **options},
    )
    ids = 1000 + 3 * np.arange(spec.rows)
    with create_store(path, spec) as into:
        for index in into.pending():
            rows = slice(*spec.rows_of(index))
            into.write(
                index,
                ids=ids[rows],
                features=features[rows],
                labels=np.arange(spec.rows)[rows] % 3 if spec.labelled else None,
                logits=np.ones((len(ids[rows]), spec.logits)) if spec.logits else None,
            )
    return open_store(path)


def drawn(rows: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def sources_in(folder: Path) -> dict[str, FeatureStore]:
    root = folder / "features.zarr"
    return {
        split: filled(root / split, drawn(rows, seed=rows), logits=3)
        for split, rows in ROWS.items()
    }


def targets_in(folder: Path, factors: tuple[float, ...] = (2, 4, 8, 24)) -> list[Target]:
    found = []
    for factor in factors:
        k = dim_for_factor(DIM, factor)
        projection = make_projection("gaussian", dim_in=DIM, dim_out=k, seed=0)
        found.append(Target(f"k{k}", factor, projection, folder / f"k{k}.zarr"))
    return found


def bytes_in(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(".lock")
    }
