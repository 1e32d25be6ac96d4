"""Small stores for the tests of ``stores``: every value follows from the spec and the row number.

Run as a program, ``python -m tests.stores_examples PATH ROWS DIM`` makes such a store, one line
of output a chunk: it is the process that other tests kill.
"""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from stores import StoreSpec, StoreWriter, create_store

MADE_BY: dict[str, Any] = {"teacher": {"name": "timm/resnet50", "weights": "sha256:ab"}}


def small_spec(**changes: Any) -> StoreSpec:
    """10 rows of 3 dims in chunks of 4: the last chunk is short."""
    settings: dict[str, Any] = {
        "rows": 10,
        "dim": 3,
        "chunk_rows": 4,
        "logits": 2,
        "made_by": MADE_BY,
    }
    return StoreSpec(**(settings | {"classes": ("nought", "one")} | changes))


def rows_of(spec: StoreSpec, start: int, stop: int) -> dict[str, np.ndarray]:
    """The rows of any such store: value ``1000 row + dim``, scaled to fit float16."""
    row = np.arange(start, stop)
    grid = row[:, None] * 1000 + np.arange(spec.dim)
    rows: dict[str, np.ndarray] = {"ids": row * 7 - 3}
    rows["features"] = (grid / 4096).astype(np.float32)
    if spec.labelled:
        rows["labels"] = row // 3 % 2
    if spec.logits:
        rows["logits"] = (row[:, None] - np.arange(spec.logits)).astype(np.float32)
    return rows


def write(writer: StoreWriter, index: int) -> None:
    """Write one chunk of it."""
    writer.write(index, **rows_of(writer.spec, *writer.spec.rows_of(index)))


def fill(path: Path, spec: StoreSpec) -> Path:
    """Make, or go on making, the whole store."""
    with create_store(path, spec) as writer:
        for index in writer.pending():
            write(writer, index)
    return path


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def big_spec(rows: int, dim: int) -> StoreSpec:
    """The spec of the program below: chunks of 1 MB."""
    return StoreSpec(rows=rows, dim=dim, chunk_rows=2**18 // dim, logits=8, made_by=MADE_BY)


def main(path: Path, rows: int, dim: int) -> None:
    """Make a store and say after each chunk that it is there."""
    print("ready", flush=True)
    with create_store(path, big_spec(rows, dim)) as writer:
        for index in writer.pending():
            write(writer, index)
            print(index, flush=True)
            time.sleep(0.002)  # about as long as a chunk takes: kills strike inside and between


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
