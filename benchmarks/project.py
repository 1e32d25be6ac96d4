"""Projection, store to store, against scikit-learn's Gaussian projection in memory. Prints JSON.

50,000 x 2,048 float32 at factors 2, 4, 8 and 16. Ours reads a store and writes four of them in one
pass, with checksums and digests; scikit-learn maps one array in memory four times and writes
nothing. Both have their matrices drawn before the clock starts; they take turns, and the best
round of each counts, since everything else on the machine only slows.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from distill.progress import SILENT
from distill.stages.project import Target, dim_for_factor, project
from projections import make_projection
from stores import FeatureStore, StoreSpec, create_store, default_chunk_rows, open_store

ROWS, DIM, FACTORS, ROUNDS = 50_000, 2_048, (2, 4, 8, 16), 3
POLL_SECONDS = 0.005


def make_source(path: Path) -> FeatureStore:
    """A store of normal numbers, drawn chunk by chunk: this process never holds them all."""
    chunk_rows = default_chunk_rows(DIM, "float32")
    spec = StoreSpec(rows=ROWS, dim=DIM, chunk_rows=chunk_rows, classes=("a", "b"), made_by={})
    rng = np.random.default_rng(0)
    with create_store(path, spec) as into:
        for index in into.pending():
            ids = np.arange(*spec.rows_of(index))
            features = rng.standard_normal((len(ids), DIM), dtype=np.float32)
            into.write(index, ids=ids, features=features, labels=ids % 2)
    return open_store(path)


def make_targets(folder: Path) -> list[Target]:
    return [
        Target(
            f"factor-{factor}",
            factor,
            make_projection("gaussian", dim_in=DIM, dim_out=dim_for_factor(DIM, factor), seed=0),
            folder / f"factor-{factor}.zarr",
        )
        for factor in FACTORS
    ]


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def anonymous_bytes() -> int:
    """Memory of this process that no file backs: memory maps and page cache do not count."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def peak_over_imports(source: FeatureStore, folder: Path) -> int:
    """Run in a process of its own: what the whole stage holds at most, maps included."""
    before = anonymous_bytes()
    peak, done = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(POLL_SECONDS):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    project({"train": source}, make_targets(folder), progress=SILENT)
    done.set()
    watcher.join()
    return max(peak, anonymous_bytes()) - before


def measured_peak(folder: Path) -> int:
    command = [sys.executable, "-m", "benchmarks.project", str(folder)]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(shown)


def measured_times(source: FeatureStore, folder: Path) -> dict[str, float]:
    from sklearn.random_projection import GaussianRandomProjection

    features = source.features()
    theirs = [
        GaussianRandomProjection(dim_for_factor(DIM, factor), random_state=0).fit(features[:2])
        for factor in FACTORS
    ]
    ours = make_targets(folder / "timed")
    best = {"ours": float("inf"), "scikit-learn": float("inf")}
    for _ in range(ROUNDS):
        shutil.rmtree(folder / "timed", ignore_errors=True)
        took = seconds(lambda: [transformer.transform(features) for transformer in theirs])
        best["scikit-learn"] = min(best["scikit-learn"], took)
        took = seconds(lambda: project({"train": source}, ours, progress=SILENT))
        best["ours"] = min(best["ours"], took)
    return best


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        source = make_source(folder / "features.zarr" / "train")
        peak = measured_peak(folder)
        times = measured_times(source, folder)
    draws = {
        f"seconds to draw {kind} {DIM} x {DIM // 2}": seconds(
            partial(make_projection, kind, dim_in=DIM, dim_out=DIM // 2, seed=0)
        )
        for kind in ("gaussian", "orthogonal")
    }
    bars = [
        {
            "what": "four factors in one pass, share of scikit-learn's speed in memory",
            "measured": times["scikit-learn"] / times["ours"],
            "bar": 0.8,
            "better": "more",
        },
        {
            "what": "peak anonymous memory over imports, MB",
            "measured": peak / 1e6,
            "bar": 512,
            "better": "less",
        },
    ]
    detail = {f"seconds {name}": took for name, took in times.items()} | draws
    print(json.dumps({"bars": bars, "detail": detail}, indent=2))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        inside = Path(sys.argv[1])
        print(peak_over_imports(open_store(inside / "features.zarr" / "train"), inside / "peak"))
    else:
        main()
