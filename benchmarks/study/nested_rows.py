"""Stored embeddings along their principal directions, as a small perceptron learns them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from stores import open_splits

DIRECTIONS = 256  # principal ones of the embeddings that are kept


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Features and labels of one split."""

    features: Float32[Tensor, "rows dim"]
    labels: Int64[Tensor, " rows"]


def embedded(run: Path, *, test: bool = True) -> tuple[dict[str, Rows], float]:
    """The splits of a run along ``DIRECTIONS`` principal directions, and the variance they keep.

    Mean, deviation of each column and directions are of the training rows; then one number brings
    the rows to a root mean square of 1.
    """
    stores = open_splits(run / "features.zarr")
    names = [name for name in stores if test or name != "test"]
    features = {name: stores[name].features().astype(np.float32) for name in names}
    mean, spread = features["train"].mean(axis=0), features["train"].std(axis=0)
    scaled = {name: (features[name] - mean) / np.maximum(spread, 1e-6) for name in names}
    directions, share = principal(scaled["train"], DIRECTIONS)
    found = {name: scaled[name] @ directions for name in names}
    scale = np.sqrt(np.mean(found["train"] ** 2))
    rows = {
        name: Rows(
            features=torch.from_numpy(found[name] / scale),
            labels=torch.from_numpy(stores[name].labels()),
        )
        for name in names
    }
    return rows, share


def principal(
    rows: Float32[np.ndarray, "rows dim"], count: int
) -> tuple[Float32[np.ndarray, "dim count"], float]:
    """The ``count`` directions of most second moment, the first first, and their share of it."""
    moment = (rows.T @ rows).astype(np.float64) / len(rows)
    values, vectors = np.linalg.eigh(moment)
    share = float(values[-count:].sum() / values.sum())
    return np.ascontiguousarray(vectors[:, ::-1][:, :count], dtype=np.float32), share
