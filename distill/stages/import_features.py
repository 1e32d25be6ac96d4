"""``import``: feature rows that somebody else computed become the stores of a run."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int64

from distill.config import DataConfig
from distill.datasets import (
    MISSING,
    Column,
    DataError,
    Dataset,
    FeatureRows,
    Part,
    Source,
    Split,
    assemble,
    digest_of,
    encode_labels,
    find_labels,
    open_rows,
    read_column,
)
from distill.findings import Extracted, ExtractedSplit
from distill.progress import Progress, Silent
from stores import StoreSpec, StoreWriter, create_store, default_chunk_rows, even_chunk_rows

BLOCK_BYTES = 8 * 2**20  # of features read at a time
LARGEST_FLOAT16 = 65504.0
INT64 = np.iinfo(np.int64)


@final
@dataclass(frozen=True)
class _Rows:
    """Rows of a file as a data set's reader: they are numbered and named, never opened singly."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, row: int) -> Any:
        raise DataError(f"{self.where(row)}: imported features have no inputs to read")

    def where(self, row: int) -> str:
        return f"{self.path}: row {row}"


def import_features(
    features: Path,
    labels: Path | None,
    root: Path,
    *,
    data: DataConfig,
    key: str = "",
    label_key: str = "",
    ids: Path | None = None,
    classes: Sequence[str] = (),
    dtype: str = "float32",
    made_by: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """Write the rows of ``features`` as stores ``root/train``, ``…/validation``, ``…/test``.

    ``features``: .npy, .npz, .safetensors or .parquet, (rows, dim), read in blocks; ``key``
    names the array or column among several. ``labels``: a file of its own, or None where they
    lie beside the features (``label_key``) or nowhere. Integers are indices into ``classes``
    where those are given. ``ids``: a file of int64 numbers; without it an example's id is its
    row. Validation and test are carved out by ``data``'s shares and seed; its ``limit`` and
    ``skip_bad`` count too. ``made_by`` is added to the stores' origin. ``DataError`` names what
    does not fit and where; NaN, infinity and what float16 cannot hold are found before anything
    is written. Interrupted and called again, it goes on.
    """
    started = time.perf_counter()
    progress = progress or Silent()
    column = find_labels(features, label_key) if labels is None else None
    rows = open_rows(features, key=key, not_features=[column.name] if column else [])
    if labels is not None:
        column = read_column(labels, key=label_key, rows=rows.rows)
    bad = _bad_rows(features, rows, dtype, progress)
    files = [features, *(path for path in (labels, ids) if path is not None)]
    source = _source(features, rows, column, classes, bad, f"{digest_of(files)} {key} {label_key}")
    dataset = assemble(data.name, source, data, progress, mix=False)
    numbers = _ids(ids, rows.rows)
    origin = {"stage": "import", "dataset": dataset.fingerprint, **(made_by or {})}
    written = _write(rows, dataset, numbers, root, dtype, origin, progress)
    seconds = time.perf_counter() - started
    return Extracted(
        teacher=f"imported from {features.name}",
        dataset=data.name,
        dim=rows.dim,
        logits=0,
        dtype=dtype,
        splits=tuple(
            ExtractedSplit(split=split.name, rows=len(split), skipped=split.skipped)
            for split in dataset.splits.values()
        ),
        bytes=sum(file.stat().st_size for file in root.rglob("*") if file.is_file()),
        seconds=seconds,
        rows_written=written,
        rows_per_second=written / seconds,
        notes=dataset.notes,
    )


def _block_rows(rows: FeatureRows) -> int:
    return max(1, BLOCK_BYTES // (8 * rows.dim))


def _bad_rows(path: Path, rows: FeatureRows, dtype: str, progress: Progress) -> dict[int, str]:
    """Rows that no store can hold, found by reading everything once."""
    bad: dict[int, str] = {}
    limit = LARGEST_FLOAT16 if dtype == "float16" else float(np.finfo(np.float32).max)
    start = 0
    with progress.task("checking", total=rows.rows, unit="rows") as advance:
        for block in rows.blocks(_block_rows(rows)):
            # a limit beyond the block's own range would be infinite in it: infinity would pass
            largest = min(limit, float(np.finfo(block.dtype).max))
            wrong = ~(np.abs(block) <= largest)  # NaN compares false
            for row in np.flatnonzero(wrong.any(axis=1)).tolist():
                dim = int(wrong[row].argmax())
                value = float(block[row, dim])
                why = "" if not np.isfinite(value) else f", beyond the {limit:g} of {dtype}"
                bad[start + row] = f"{path}: row {start + row} holds {value:g} in column {dim}{why}"
            start += len(block)
            advance(len(block))
    if start != rows.rows:
        raise DataError(f"{path} promises {rows.rows} rows and holds {start}")
    return bad


def _source(
    path: Path,
    rows: FeatureRows,
    column: Column | None,
    classes: Sequence[str],
    bad: Mapping[int, str],
    content: str,
) -> Source:
    """Make the file a data set of one train split."""
    reader = _Rows(path, rows.rows)
    codes, names = None, tuple(classes)
    note = "no labels were given: heads cannot be trained on these features"
    if column is not None:
        what = f"the label column {column.name!r}" if column.name else "the file of labels"
        found = encode_labels(
            {"train": column.values},
            classes=names or column.classes,
            what=what,
            where=lambda _, row: f"row {row}",
        )
        codes, names = found.codes["train"], found.classes
        note = f"labels from {column.name!r}" if column.name else ""
        missing = np.flatnonzero(codes == MISSING).tolist()
        bad = {row: f"{reader.where(row)}: the label is missing" for row in missing} | dict(bad)
    return Source(
        modality="features",
        classes=names if codes is not None else (),
        parts={"train": Part(reader=reader, labels=codes, bad=bad)},
        digest=content,
        notes=(note,) if note else (),
    )


def _ids(path: Path | None, rows: int) -> Int64[np.ndarray, " rows"] | None:
    if path is None:
        return None
    held = read_column(path, rows=rows, what="ids").values
    values = np.array(held, dtype=object) if isinstance(held, list) else np.asarray(held)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        try:
            numbers = [int(str(value)) for value in values.tolist()]
        except ValueError as error:
            raise DataError(f"{path}: ids must be whole numbers, one a row ({error})") from error
        values = np.array(numbers, dtype=object)
    beyond = np.flatnonzero((values < INT64.min) | (values > INT64.max))
    if len(beyond):
        row = int(beyond[0])
        raise DataError(
            f"{path}: row {row} holds the id {values[row]}, beyond the 64 bits of an id "
            f"({INT64.min} to {INT64.max})"
        )
    ids = values.astype(np.int64)
    if len(np.unique(ids)) < len(ids):
        raise DataError(f"{path}: ids must all be different")
    return ids


@final
@dataclass
class _Filling:
    """One split's store on its way: rows that have come, until they fill a chunk."""

    split: Split
    rows: Int64[np.ndarray, " n"]  # of the file, ascending
    ids: Int64[np.ndarray, " n"]
    writer: StoreWriter
    pending: set[int]
    dtype: str
    held: list[Float[np.ndarray, "_ dim"]] = field(default_factory=list)
    chunk: int = 0  # the next to be completed
    written: int = 0

    def take(self, block: Float[np.ndarray, "_ dim"], start: int) -> None:
        """Take this split's rows out of a block that begins at row ``start`` of the file."""
        first, last = np.searchsorted(self.rows, (start, start + len(block)))
        rows = self.rows[first:last] - start
        at = 0
        while at < len(rows):
            begin, end = self.writer.spec.rows_of(self.chunk)
            count = min(len(rows) - at, end - int(first) - at)
            if self.chunk in self.pending:
                self.held.append(block[rows[at : at + count]].astype(self.dtype))
            at += count
            if int(first) + at == end:
                self._complete(begin, end)

    def _complete(self, begin: int, end: int) -> None:
        if self.chunk in self.pending:
            labels = self.split.labels
            self.writer.write(
                self.chunk,
                ids=self.ids[begin:end],
                features=np.concatenate(self.held),
                labels=None if labels is None else labels[begin:end],
            )
            self.written += end - begin
        self.held, self.chunk = [], self.chunk + 1


def _write(
    rows: FeatureRows,
    dataset: Dataset,
    numbers: Int64[np.ndarray, " rows"] | None,
    root: Path,
    dtype: str,
    made_by: Mapping[str, Any],
    progress: Progress,
) -> int:
    """Fill all splits' stores in one pass over the file; the number of rows written."""
    with ExitStack() as stack:
        fillings = []
        for split in dataset.splits.values():
            spec = StoreSpec(
                rows=len(split),
                dim=rows.dim,
                dtype=dtype,
                labelled=split.labels is not None,
                classes=dataset.classes if split.labels is not None else (),
                chunk_rows=even_chunk_rows(len(split), default_chunk_rows(rows.dim, dtype)),
                made_by=made_by,
            )
            writer = stack.enter_context(create_store(root / split.name, spec))
            places = split.inputs.rows
            ids = split.ids if numbers is None else numbers[places]
            fillings.append(_Filling(split, places, ids, writer, set(writer.pending()), dtype))
        if any(filling.pending for filling in fillings):
            start = 0
            with progress.task("importing", total=rows.rows, unit="rows") as advance:
                for block in rows.blocks(_block_rows(rows)):
                    for filling in fillings:
                        filling.take(block, start)
                    start += len(block)
                    advance(len(block))
        return sum(filling.written for filling in fillings)
