"""How often validation's checks fail sound maps: many maps, widths and kinds of data. Prints JSON.

No bar of ``make bench``: it is what the constants of ``distill/limits.py`` were settled with.
``python -m benchmarks.false_alarms 1000`` draws 1,000 maps for each data set and width, half of
them Gaussian, half orthonormal: about 5 minutes on one core.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np

from distill.limits import ROUNDING, check_ratios, overlap
from distill.neighbours import nearest_rows_faiss, pair_distances
from projections import expected_ratio_std

ROWS, DIM, PAIRS, WIDTHS = 300, 512, 20_000, (1, 2, 8, 32, 128, 512)


def data_sets(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """From one direction to all, with clusters, duplicates, outliers and sparse rows."""
    scales = 1 / np.arange(1, DIM + 1)
    clouds = rng.standard_normal((ROWS, DIM))
    centres = 3 * rng.standard_normal((10, DIM))
    mask = rng.random((ROWS, DIM)) < 0.01
    yield "all directions alike", clouds
    yield "variances 1/i²", clouds * scales
    yield "variances 1/i", clouds * np.sqrt(scales)
    yield "one direction", np.outer(clouds[:, 0], centres[0])
    yield "two directions", clouds[:, :2] @ centres[:2]
    yield "tight clusters", centres[rng.integers(0, 10, ROWS)] + 0.1 * clouds * np.sqrt(scales)
    yield "mostly zero rows", np.maximum(clouds * scales**0.3 - 1, 0)
    yield "outliers", clouds * np.sqrt(scales) * rng.standard_t(2, (ROWS, 1))
    yield "sparse", clouds * mask + 1e-3 * rng.standard_normal((ROWS, DIM))


def draw_map(rng: np.random.Generator, kind: str, width: int) -> np.ndarray:
    matrix: np.ndarray = rng.standard_normal((DIM, width)) / np.sqrt(width)
    if kind == "orthogonal":
        matrix = np.linalg.qr(matrix)[0] * np.sqrt(DIM / width)
    return matrix


def failures(rows: np.ndarray, width: int, maps: int, rng: np.random.Generator) -> Counter[str]:
    """Which checks failed, over maps of ``rows``."""
    ids = np.arange(ROWS)
    near = nearest_rows_faiss(rows, ids, rows, ids, k=10).rows[ids, rng.integers(0, 10, ROWS)]
    first = rng.integers(0, ROWS, PAIRS)
    sides = [(first, (first + rng.integers(1, ROWS, PAIRS)) % ROWS), (ids, near)]
    measured = [pair_distances(rows, *side) for side in sides]
    kept = [(a[d > 0], b[d > 0]) for (a, b), d in zip(sides, measured, strict=True)]
    before = [d[d > 0].astype(np.float64) for d in measured]
    shared = [overlap(rows[a[:1000]] - rows[b[:1000]], pairs=len(a)) for a, b in kept]
    failed: Counter[str] = Counter()
    for number in range(maps):
        kind = ("gaussian", "orthogonal")[number % 2]
        mapped = rows @ draw_map(rng, kind, width).astype(np.float32)
        ratios = [pair_distances(mapped, *s) / b for s, b in zip(kept, before, strict=True)]
        std = expected_ratio_std(kind, DIM, width)
        checks = check_ratios(
            *ratios,
            std=0.0 if std is None else std,
            dim_out=width,
            shared=shared[0],
            near_shared=shared[1],
            rounding=ROUNDING["float32"],
        )
        failed.update(check.name for check in checks if not check.passed)
    return failed


def main() -> int:
    maps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rng = np.random.default_rng(0)
    found, total = [], 0
    for name, rows in data_sets(rng):
        for width in WIDTHS:
            failed = failures(rows.astype(np.float32), width, maps, rng)
            total += maps
            if failed:
                found.append({"data": name, "width": width, "failed": dict(failed)})
    print(json.dumps({"maps": total, "failures": found}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
