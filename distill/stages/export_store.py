"""``export-store``: the rows of a store as a file that other tools read, streamed."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import StageError
from distill.findings import Exported
from distill.progress import Progress, Silent
from stores import Chunk, FeatureStore

Advance = Callable[[int], None]


def export_store(
    store: FeatureStore,
    path: Path,
    *,
    format: str = "",  # noqa: A002 - what it is called everywhere else
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a store as ``npy``, ``parquet`` or ``faiss``; without ``format`` the suffix decides.

    npy: (rows, dim) in the stored dtype, and ``….ids.npy``, ``….labels.npy`` beside it.
    parquet: columns ``features`` (lists of one length), ``ids`` and ``label`` with the class
    names in the form Hugging Face ``datasets`` reads. faiss: exact L2 in float32 under the
    examples' ids; it is built in memory, as faiss does. Files appear whole or not at all.
    ``StageError`` for an unknown format, for a folder of that name, and for a file that is there
    unless ``overwrite``, which takes labels of before away where there are none now.
    """
    progress = progress or Silent()
    chosen = format or SUFFIXES.get(path.suffix.lower(), "")
    if chosen not in WRITERS:
        raise StageError(
            f"{format or path.name!r} is no format to export to; name the file .npy, .parquet or "
            ".faiss"
        )
    files = _files(store, path, chosen)
    stale = [] if store.spec.labelled or chosen != "npy" else [_labels_beside(path)]
    there = [file for file in (*files.values(), *stale) if file.exists()]
    folders = [file for file in there if file.is_dir()]
    if folders:
        raise StageError(f"{folders[0]} is a folder; name a file to write to")
    if there and not overwrite:
        raise StageError(f"{there[0]} is already there; name another file or say --overwrite")
    if not path.parent.is_dir():
        raise StageError(f"there is no folder {path.parent} to write {path.name} into")
    with (
        _scratch(files, stale) as scratch,
        progress.task(f"exporting to {path.name}", total=store.spec.rows, unit="rows") as advance,
    ):
        WRITERS[chosen](store, scratch, advance)
    return Exported(
        path=str(path),
        format=chosen,
        rows=store.spec.rows,
        dim=store.spec.dim,
        bytes=sum(file.stat().st_size for file in files.values()),
    )


def _files(store: FeatureStore, path: Path, chosen: str) -> dict[str, Path]:
    """Every file of an export by what it holds, the features' last."""
    if chosen != "npy":
        return {"features": path}
    files = {"ids": path.with_suffix(".ids.npy")}
    if store.spec.labelled:
        files["labels"] = _labels_beside(path)
    return files | {"features": path}


def _labels_beside(path: Path) -> Path:
    return path.with_suffix(".labels.npy")


@contextmanager
def _scratch(files: dict[str, Path], stale: Sequence[Path]) -> Iterator[dict[str, Path]]:
    """Hidden names to write to; they become the files once all are whole, else they go.

    What is stale goes before new files come, so that it never lies beside them.
    """
    scratch = {name: file.with_name(f".{file.name}.partial") for name, file in files.items()}
    try:
        yield scratch
        for file in stale:
            file.unlink(missing_ok=True)
        for name, file in files.items():
            scratch[name].replace(file)
    finally:
        for file in scratch.values():
            file.unlink(missing_ok=True)


def _chunks(store: FeatureStore, advance: Advance) -> Iterator[Chunk]:
    for chunk in store.chunks(_columns(store)):
        yield chunk
        advance(chunk.stop - chunk.start)


def _columns(store: FeatureStore) -> tuple[str, ...]:
    return ("ids", "labels", "features") if store.spec.labelled else ("ids", "features")


def _write_npy(store: FeatureStore, files: dict[str, Path], advance: Advance) -> None:
    """Write a header and the chunks after it, which is all an .npy file is."""
    rows, dtype = store.spec.rows, np.dtype(store.spec.dtype).newbyteorder("<")
    columns = {"ids": store.ids()}
    if store.spec.labelled:
        columns["labels"] = store.labels()
    for name, values in columns.items():
        with files[name].open("wb") as file:
            np.save(file, values)
    about = {"descr": dtype.str, "fortran_order": False, "shape": (rows, store.spec.dim)}
    with files["features"].open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        for chunk in _chunks(store, advance):
            file.write(np.ascontiguousarray(chunk.features, dtype=dtype).data)


def _write_parquet(store: FeatureStore, files: dict[str, Path], advance: Advance) -> None:
    """One row group a chunk."""
    import pyarrow as pa
    from pyarrow import parquet

    width = pa.list_(pa.from_numpy_dtype(np.dtype(store.spec.dtype)), store.spec.dim)
    fields = [("ids", pa.int64()), ("features", width)]
    if store.spec.labelled:
        fields.insert(1, ("label", pa.int64()))
    schema = pa.schema(fields, metadata={"huggingface": json.dumps(_declared(store))})
    with parquet.ParquetWriter(files["features"], schema) as writer:
        for chunk in _chunks(store, advance):
            values = pa.array(np.ascontiguousarray(chunk.features).reshape(-1))
            arrays = {"ids": pa.array(chunk.ids), "label": chunk.labels}
            arrays["features"] = pa.FixedSizeListArray.from_arrays(values, store.spec.dim)
            table = pa.table({name: arrays[name] for name, _ in fields}, schema=schema)
            writer.write_table(table, row_group_size=len(table))


def _declared(store: FeatureStore) -> dict[str, Any]:
    """Describe the columns' types as Hugging Face ``datasets`` writes them into a parquet file."""
    value = {"dtype": store.spec.dtype, "_type": "Value"}
    features: dict[str, Any] = {
        "ids": {"dtype": "int64", "_type": "Value"},
        "features": {"feature": value, "length": store.spec.dim, "_type": "Sequence"},
    }
    if store.spec.labelled and store.spec.classes:
        features["label"] = {"names": list(store.spec.classes), "_type": "ClassLabel"}
    elif store.spec.labelled:
        features["label"] = {"dtype": "int64", "_type": "Value"}
    return {"info": {"features": features}}


def _write_faiss(store: FeatureStore, files: dict[str, Path], advance: Advance) -> None:
    import faiss

    index = faiss.IndexIDMap(faiss.IndexFlatL2(store.spec.dim))
    for chunk in _chunks(store, advance):
        rows = np.ascontiguousarray(chunk.features, dtype=np.float32)
        index.add_with_ids(rows, np.ascontiguousarray(chunk.ids))
    faiss.write_index(index, str(files["features"]))


WRITERS: dict[str, Callable[[FeatureStore, dict[str, Path], Advance], None]] = {
    "npy": _write_npy,
    "parquet": _write_parquet,
    "faiss": _write_faiss,
}
SUFFIXES = {".npy": "npy", ".parquet": "parquet", ".faiss": "faiss", ".index": "faiss"}
