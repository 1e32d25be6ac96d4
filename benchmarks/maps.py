"""Sparse and Hadamard maps against the dense float32 product of the same shape. Prints JSON.

The bar is the Hadamard map's at 4,096 to 2,048 on 20,000 rows, as it is called, with scikit-learn's
look at the rows; the dense product is a bare ``rows @ matrix``. All take turns, and the best round
of each counts. The detail says from which widths on a map pays, and what tensors take.
"""

import json
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from benchmarks.turns import Works, best_of
from projections import HadamardProjection, make_projection

ROWS, DIM, WIDTH = 20_000, 4_096, 2_048
SMALLER = ((4096, 256), (2048, 1024), (2048, 128), (768, 192), (512, 128), (384, 96), (256, 64))
NUMBERS = 1 << 22  # in the rows of the smaller shapes
ROUNDS = 5


def made_rows(rows: int, dim: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)


def array_works(rows: np.ndarray, dim_out: int) -> Works:
    matrix, sparse, hadamard = (
        make_projection(kind, dim_in=rows.shape[1], dim_out=dim_out, seed=0)
        for kind in ("gaussian", "sparse", "hadamard")
    )
    dense = matrix.matrix
    return {
        "dense": lambda: rows @ dense,
        "sparse": partial(sparse.transform, rows),
        "hadamard": partial(hadamard.transform, rows),
    }


def tensor_works(rows: np.ndarray, dim_out: int, device: str) -> Works:
    """The same for tensors; reading one number waits until the device is done."""
    dim_in = rows.shape[1]
    tensor = torch.from_numpy(rows).to(device)
    matrix = make_projection("gaussian", dim_in=dim_in, dim_out=dim_out, seed=0).matrix
    dense = torch.tensor(matrix, device=device)
    hadamard = HadamardProjection(dim_out).fit_width(dim_in)
    return {
        "dense": lambda: (tensor @ dense)[-1, -1].item(),
        "hadamard": lambda: hadamard.transform_tensor(tensor)[-1, -1].item(),
    }


def speeds(best: Mapping[str, float]) -> dict[str, float]:
    """How many times the dense product's speed each has."""
    return {name: round(best["dense"] / took, 2) for name, took in best.items()}


def main() -> None:
    rows = made_rows(ROWS, DIM)
    best = best_of(array_works(rows, WIDTH), ROUNDS)[0]
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    tensors = {device: best_of(tensor_works(rows, WIDTH, device), ROUNDS)[0] for device in devices}
    bars = [
        {
            "what": f"hadamard {DIM} to {WIDTH} on {ROWS} rows, times the dense product's speed",
            "measured": best["dense"] / best["hadamard"],
            "bar": 6.0,
            "better": "more",
        }
    ]
    detail = {
        "seconds": best,
        "seconds, tensors": tensors,
        "times the dense product's speed": {
            f"{dim_in} to {dim_out}": speeds(
                best_of(array_works(made_rows(NUMBERS // dim_in, dim_in), dim_out), ROUNDS)[0]
            )
            for dim_in, dim_out in SMALLER
        },
    }
    print(json.dumps({"bars": bars, "detail": detail}, indent=2))


if __name__ == "__main__":
    main()
