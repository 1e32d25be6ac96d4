"""Feature files that tests of import and export write, bring in and compare."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from distill.config import DataConfig
from distill.findings import Extracted
from distill.stages.import_features import import_features
from stores import FeatureStore, open_splits

ROWS, DIM = 101, 7
FEATURES: Float32[np.ndarray, "rows dim"] = (
    np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
)
LABELS: Int64[np.ndarray, " rows"] = np.random.default_rng(1).integers(0, 3, ROWS)
NAMES = ("ant", "bee", "cat")


def bring(
    root: Path, features: Path, labels: Path | None = None, limit: int = 0, **options: Any
) -> Extracted:
    data = DataConfig(
        name=f"import:{features.name}", limit=limit, skip_bad=options.pop("skip", False)
    )
    return import_features(features, labels, root / "features.zarr", data=data, **options)


def stores(root: Path) -> dict[str, FeatureStore]:
    return open_splits(root / "features.zarr")


def rows_of(found: dict[str, FeatureStore]) -> dict[int, tuple[list[float], str]]:
    """Features and class name of every example."""
    return {
        int(example): (row.tolist(), store.spec.classes[label])
        for store in found.values()
        for example, row, label in zip(store.ids(), store.features(), store.labels(), strict=True)
    }


EXPECTED = {row: (FEATURES[row].tolist(), NAMES[LABELS[row]]) for row in range(ROWS)}


def npy(root: Path, order: str = "C", dtype: str = "<f4") -> Path:
    np.save(root / "x.npy", np.asarray(FEATURES, dtype=dtype, order=order))  # type: ignore[call-overload]
    return root / "x.npy"


def names_file(root: Path) -> Path:
    (root / "y.txt").write_text("\n".join(NAMES[label] for label in LABELS) + "\n")
    return root / "y.txt"
