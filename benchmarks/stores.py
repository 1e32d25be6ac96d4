"""Feature stores against NumPy and zarr: sequential write and read, shuffled batches. Prints JSON.

Every candidate writes the same 256 MB of float32 (32,768 x 2,048) in chunks of 4 MB, on the same
disk, in turn; the best of the rounds counts, since everything else on the machine only slows. Ours
also looks for NaN, stores ids, and ends with a manifest. It is written chunk by chunk, as rows
come from a teacher, and held against zarr-python doing so; "zarr" assigns the whole array at once.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.codecs
from jaxtyping import Float32

from stores import StoreSpec, create_store, default_chunk_rows, open_store, shuffled_batches

ROWS, DIM, ROUNDS = 32_768, 2_048, 5
NARROW_ROWS, NARROW_DIM = 400_000, 128
ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}

Features = Float32[np.ndarray, "rows dim"]
Writer = Callable[[Path], None]


def write_store(path: Path, features: Features) -> None:
    rows, dim = features.shape
    chunk_rows = default_chunk_rows(dim, "float32")
    spec = StoreSpec(rows=rows, dim=dim, chunk_rows=chunk_rows, labelled=False, made_by={})
    ids = np.arange(rows)
    with create_store(path, spec) as writer:
        for index in writer.pending():
            part = slice(*spec.rows_of(index))
            writer.write(index, ids=ids[part], features=features[part])


def write_numpy(path: Path, features: Features) -> None:
    np.save(path, features)


def zarr_array(path: Path, features: Features) -> "zarr.Array[Any]":
    rows, dim = features.shape
    return zarr.create_array(
        path,
        shape=(rows, dim),
        chunks=(default_chunk_rows(dim, "float32"), dim),
        dtype="float32",
        compressors=[zarr.codecs.Crc32cCodec()],
        config={"write_empty_chunks": True},
    )


def write_zarr(path: Path, features: Features) -> None:
    zarr_array(path, features)[...] = features


def write_zarr_chunks(path: Path, features: Features) -> None:
    array = zarr_array(path, features)
    for start in range(0, len(features), array.chunks[0]):
        array[start : start + array.chunks[0]] = features[start : start + array.chunks[0]]


def write_zarrs(path: Path, features: Features) -> None:
    with zarr.config.set(ZARRS):
        write_zarr(path, features)


def read_store(path: Path) -> object:
    return open_store(path).features()


def read_chunks(path: Path) -> object:
    return sum(chunk.stop - chunk.start for chunk in open_store(path).chunks())


def read_numpy(path: Path) -> object:
    return np.array(np.load(path, mmap_mode="r"))


def read_zarr(path: Path) -> object:
    return zarr.open_array(path, mode="r")[...]


def read_zarrs(path: Path) -> object:
    with zarr.config.set(ZARRS):
        return read_zarr(path)


def shuffle(path: Path) -> object:
    batches = shuffled_batches(open_store(path), 256, seed=0, epoch=0)
    return sum(len(batch.rows) for batch in batches)


def best_seconds(
    candidates: Mapping[str, Callable[[Path], object]], paths: Mapping[str, Path], *, fresh: bool
) -> dict[str, float]:
    """Run the candidates in turn; the shortest time of each. ``fresh`` deletes what each wrote."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            began = time.perf_counter()
            run(paths[name])
            best[name] = min(best[name], time.perf_counter() - began)
            if fresh:  # before the disk wakes up and slows the next one
                delete(paths[name])
    return best


def delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


WRITERS: dict[str, Callable[[Path, Features], None]] = {
    "numpy": write_numpy,
    "store": write_store,
    "zarr": write_zarr,
    "zarr, chunk by chunk": write_zarr_chunks,
    "zarrs": write_zarrs,
}
READERS: dict[str, Callable[[Path], object]] = {
    "numpy": read_numpy,
    "store": read_store,
    "store, chunk by chunk": read_chunks,
    "zarr": read_zarr,
    "zarrs": read_zarrs,
}


def writer_of(write: Callable[[Path, Features], None], features: Features) -> Writer:
    return lambda path: write(path, features)


def measure(folder: Path) -> dict[str, object]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((ROWS, DIM), dtype=np.float32)
    writers = {name: writer_of(write, features) for name, write in WRITERS.items()}
    places = {name: folder / f"{name}.npy" for name in writers}
    writing = best_seconds(writers, places, fresh=True)
    for name, write in writers.items():
        write(places[name])
    sources = {name: places[name.split(",")[0]] for name in READERS}
    reading = best_seconds(READERS, sources, fresh=False)
    for path in places.values():
        delete(path)
    narrow = rng.standard_normal((NARROW_ROWS, NARROW_DIM), dtype=np.float32)
    write_store(folder / "narrow", narrow)
    shuffling = best_seconds({"": shuffle}, {"": folder / "narrow"}, fresh=False)
    return report(features.nbytes, writing, reading, NARROW_ROWS / shuffling[""])


def report(
    size: int, writing: dict[str, float], reading: dict[str, float], rows_per_second: float
) -> dict[str, object]:
    def bar(what: str, measured: float, limit: float) -> dict[str, object]:
        return {"what": what, "measured": round(measured, 3), "bar": limit, "better": "more"}

    zarr_writing = writing["zarr, chunk by chunk"]
    return {
        "bars": [
            bar("write / numpy.save", writing["numpy"] / writing["store"], 0.4),
            bar("read / memmap copy", reading["numpy"] / reading["store"], 0.4),
            bar("write / zarr-python", zarr_writing / writing["store"], 1.5),
            bar("read / zarr-python", reading["zarr"] / reading["store"], 1.4),
            bar("shuffled 128-d, million rows/s", rows_per_second / 1e6, 0.5),
        ],
        "write_gb_per_second": {name: round(size / s / 1e9, 3) for name, s in writing.items()},
        "read_gb_per_second": {name: round(size / s / 1e9, 3) for name, s in reading.items()},
        "versions": {"numpy": np.__version__, "zarr": zarr.__version__},
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        json.dump(measure(Path(folder)), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
