"""Validation of a store against raw faiss search of the same queries. Prints JSON.

20,000 x 2,048 float32 and its projection to 128 dimensions, 2,000 queries, 10 neighbours. Ours
reads both stores with their checksums and does everything ``validate`` says; the other side holds
both arrays in memory, fills an ``IndexFlatL2`` with each and searches it for 11, the query itself
included. They take turns, and the best round of each counts, since everything else on the machine
only slows.
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from distill.config import ValidateConfig
from distill.progress import SILENT
from distill.stages.validate import validate
from projections import make_projection
from stores import FeatureStore, StoreSpec, create_store, default_chunk_rows, open_store

ROWS, DIM, WIDTH, ROUNDS = 20_000, 2_048, 128, 5
SETTINGS = ValidateConfig()


def make_store(path: Path, features: np.ndarray, made_by: Mapping[str, Any]) -> FeatureStore:
    rows, dim = features.shape
    chunk_rows = default_chunk_rows(dim, "float32")
    spec = StoreSpec(rows=rows, dim=dim, chunk_rows=chunk_rows, made_by=made_by)
    with create_store(path, spec) as into:
        for index in into.pending():
            ids = np.arange(*spec.rows_of(index))
            into.write(index, ids=ids, features=features[ids], labels=ids % 100)
    return open_store(path)


def make_features() -> np.ndarray:
    """Clouds whose variances fall by axis, cut off below zero like pooled features."""
    rng = np.random.default_rng(0)
    scales = (np.arange(1, DIM + 1) ** -0.3).astype(np.float32)
    centres = rng.standard_normal((100, DIM), dtype=np.float32)
    noise = rng.standard_normal((ROWS, DIM), dtype=np.float32)
    rows: np.ndarray = np.maximum((centres[np.arange(ROWS) % 100] + noise) * scales, 0)
    return rows


def raw_search(arrays: list[np.ndarray]) -> float:
    began = time.perf_counter()
    queries = np.random.default_rng(SETTINGS.seed).permutation(ROWS)[: SETTINGS.queries]
    for rows in arrays:
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(rows)
        index.search(rows[queries], SETTINGS.neighbours + 1)
    return time.perf_counter() - began


def main() -> int:
    features = make_features()
    projection = make_projection("gaussian", dim_in=DIM, dim_out=WIDTH, seed=0)
    narrow = np.asarray(projection.transform(features), np.float32)
    ours, raw, passed = [], [], True
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        reference = make_store(Path(folder) / "features.zarr" / "train", features, {})
        made_by = {"projection": projection.describe(), "source": reference.digest}
        candidate = make_store(Path(folder) / "projected.zarr" / "train", narrow, made_by)
        for _ in range(ROUNDS):
            raw.append(raw_search([features, narrow]))
            began = time.perf_counter()
            found = validate(
                reference, candidate, settings=SETTINGS, split="train", progress=SILENT
            )
            ours.append(time.perf_counter() - began)
            passed &= found.passed
    bar = {
        "what": "validate against raw faiss search of the same queries, time",
        "measured": min(ours) / min(raw),
        "bar": 1.3,
        "better": "less",
    }
    seconds = {"validate": ours, "raw": raw}
    print(json.dumps({"bars": [bar], "seconds": seconds, "checks_passed": passed}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
