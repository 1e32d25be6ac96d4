"""Moments of a store, PCA from them, and all data-aware maps from them. Prints JSON.

Moments: a labelled store of 50,000 x 2,048 float32 in 100 classes, gathered chunk by chunk, against
what no way of doing it can leave out: reading the same store once, and one float32 product XᵀX of
the rows in memory. PCA: 2,048 -> 128 dimensions on 20,000 rows in memory with a spectrum that falls
as features' does (1 / i), against scikit-learn's randomised PCA. Told beside: how much of the best
variance each keeps, and what it takes by way of moments, which then serve every other map. Rivals
take turns, and the best round of each counts, since everything else on the machine only slows.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg

from benchmarks.turns import best_of
from projections import Moments, PCAProjection, fit_projections, gather_moments, ridge_head
from stores import FeatureStore, StoreSpec, create_store, default_chunk_rows, open_store

ROWS, DIM, CLASSES, ROUNDS = 50_000, 2_048, 100, 7
PCA_ROWS, PCA_DIM = 20_000, 128
FACTORS = (1, 2, 4, 8, 12, 16, 32, 64)


def make_source(path: Path) -> FeatureStore:
    """A store of rows in classes, drawn chunk by chunk."""
    spec = StoreSpec(
        rows=ROWS,
        dim=DIM,
        chunk_rows=default_chunk_rows(DIM, "float32"),
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        made_by={},
    )
    rng = np.random.default_rng(0)
    means = rng.standard_normal((CLASSES, DIM), dtype=np.float32)
    with create_store(path, spec) as into:
        for index in into.pending():
            ids = np.arange(*spec.rows_of(index))
            labels = rng.integers(0, CLASSES, len(ids))
            features = rng.standard_normal((len(ids), DIM), dtype=np.float32) + means[labels]
            into.write(index, ids=ids, features=features, labels=labels)
    return open_store(path)


def falling_rows() -> np.ndarray:
    """Rows whose covariance has the eigenvalues 1 / i, in no particular directions."""
    rng = np.random.default_rng(0)
    turned = scipy.linalg.qr(rng.standard_normal((DIM, DIM), dtype=np.float32))[0]
    spread = (1 / np.arange(1, DIM + 1, dtype=np.float32)) ** 0.5
    rows = (rng.standard_normal((PCA_ROWS, DIM), dtype=np.float32) * spread) @ turned
    return np.asarray(rows + 1, dtype=np.float32)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def blocks(store: FeatureStore) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for chunk in store.chunks(("features", "labels")):
        if chunk.features is not None and chunk.labels is not None:  # as both were asked for
            yield chunk.features, chunk.labels


def gather(store: FeatureStore) -> Moments:
    return gather_moments(blocks(store), classes=CLASSES)


def read(store: FeatureStore) -> int:
    return sum(len(features) for features, _ in blocks(store))


def passes(folder: Path) -> tuple[dict[str, float], Moments]:
    """Seconds of the passes over a store, and the moments."""
    store = make_source(folder / "train")
    features = store.features()
    best, results = best_of(
        {
            "to gather moments": partial(gather, store),
            "to read the store": partial(read, store),
            "for one product": lambda: features.T @ features,
        },
        ROUNDS,
    )
    return best, results["to gather moments"]


def fits() -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of the two PCAs, and the share of the best variance that each keeps."""
    from sklearn.decomposition import PCA

    rows = falling_rows()
    theirs = PCA(PCA_DIM, svd_solver="randomized", random_state=0)
    best, maps = best_of(
        {
            "our PCA": lambda: PCAProjection(PCA_DIM).fit(rows),
            "our PCA, moments kept": lambda: PCAProjection(PCA_DIM).fit_moments(
                gather_moments([(rows, None)])
            ),
            "scikit-learn's PCA": lambda: theirs.fit(rows),
        },
        ROUNDS,
    )
    covariance = gather_moments([(rows, None)]).covariance
    most = scipy.linalg.eigvalsh(covariance)[::-1][:PCA_DIM].sum()
    found = {name: fitted.matrix for name, fitted in maps.items() if fitted is not theirs}
    found["scikit-learn's PCA"] = theirs.components_.T
    kept = {name: np.vdot(matrix, covariance @ matrix) / most for name, matrix in found.items()}
    return best, {name: float(share) for name, share in kept.items()}


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        passed, moments = passes(Path(name))
    fitted, kept = fits()
    dims = [DIM // factor for factor in FACTORS]
    head, _ = ridge_head(moments, 1e-2)
    kinds = {
        f"for {kind} at {len(dims)} widths": timed(
            partial(fit_projections, kind, moments, dims, head=head)
        )[0]
        for kind in ("pca", "discriminant", "head-svd")
    }
    bars = [
        {
            "what": "moments of a store, against reading it once and one float32 product",
            "measured": passed["to gather moments"]
            / (passed["to read the store"] + passed["for one product"]),
            "bar": 1.3,
            "better": "less",
        },
        {
            "what": "PCA 2,048 to 128 on 20,000 rows, against scikit-learn's randomised PCA",
            "measured": fitted["scikit-learn's PCA"] / fitted["our PCA"],
            "bar": 2.5,
            "better": "more",
        },
        {
            "what": "seconds for the maps of three kinds at all factors, 1 included, from moments",
            "measured": sum(kinds.values()),
            "bar": 30,
            "better": "less",
        },
    ]
    detail = {f"seconds {name}": took for name, took in {**passed, **fitted, **kinds}.items()}
    detail |= {f"share of the best variance that {name} keeps": kept[name] for name in kept}
    print(json.dumps({"bars": bars, "detail": detail}, indent=2))


if __name__ == "__main__":
    main()
