"""Tables of text or images as a source: columns, labels, lazily read rows, known-bad rows."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from distill.config import DataConfig
from distill.datasets.base import Part, Source
from distill.datasets.columns import Columns, choose_columns
from distill.datasets.errors import BadInputError, DataError
from distill.datasets.images import open_image
from distill.datasets.labels import MISSING, encode_labels


@final
@dataclass(frozen=True, eq=False)
class TableRows:
    """Text, pairs or images in the columns of a memory-mapped ``datasets.Dataset``."""

    table: Any  # only the input columns; images undecoded
    columns: Columns
    files: tuple[str, ...]
    starts: tuple[int, ...]  # first row of each file

    def __len__(self) -> int:
        return len(self.table)

    def read(self, row: int) -> Any:
        """One example. Rows are those of the whole split."""
        values = [self.table[row][name] for name in self.columns.inputs]
        if self.columns.modality == "image":
            return self._image(row, values[0])
        wrong = [value for value in values if not isinstance(value, str)]
        if wrong:
            raise BadInputError(f"{self.where(row)}: {not_text(wrong[0])}")
        return values[0] if len(values) == 1 else (values[0], values[1])

    def where(self, row: int) -> str:
        """File and row in it, counted from 0."""
        file = bisect_right(self.starts, row) - 1
        return f"{self.files[file]}: row {row - self.starts[file]}"

    def _image(self, row: int, value: Any) -> Any:
        held = value if isinstance(value, dict) else {"path": value}
        if held.get("bytes"):
            return open_image(held["bytes"], self.where(row))
        if held.get("path"):
            home = Path(self.files[bisect_right(self.starts, row) - 1]).parent
            path = home / held["path"]
            return open_image(path, f"{self.where(row)}: {path}")
        raise BadInputError(f"{self.where(row)}: holds no image")


def not_text(value: Any) -> str:
    """Say what a value is that should have been text."""
    return "the text is missing" if value is None else f"holds {str(value)[:40]!r}, not text"


def table_source(
    tables: Mapping[str, Sequence[Any]],
    files: Mapping[str, Sequence[str]],
    config: DataConfig,
    *,
    where: str,
    content: str,
) -> Source:
    """Read the columns of each split's tables (one a file, in the same order).

    ``content`` identifies the bytes; the choice of columns is added to it.
    """
    import datasets

    joined = {
        role: datasets.concatenate_datasets(list(pieces)) if len(pieces) > 1 else pieces[0]
        for role, pieces in tables.items()
    }
    features = joined["train"].features
    columns = choose_columns(features, config, where)
    readers = {role: _reader(joined[role], tables[role], files[role], columns) for role in joined}
    labels: dict[str, Any] = dict.fromkeys(joined)
    classes: tuple[str, ...] = ()
    if columns.label:
        labels, classes = _labels(joined, columns.label, readers, where)
    parts = {}
    for role, reader in readers.items():
        bad = _bad_inputs(reader) | _bad_labels(reader, labels[role])
        parts[role] = Part(reader=reader, labels=labels[role], bad=bad)
    inputs = " and ".join(repr(name) for name in columns.inputs)
    label = f"labels from {columns.label!r}" if columns.label else "no label column"
    return Source(
        modality=columns.modality,
        classes=classes,
        parts=parts,
        digest=f"{content} {columns.inputs!r} {columns.label!r}",
        slow_to_check=columns.modality == "image",
        notes=(f"{columns.modality} from column {inputs}, {label}", *_unlabelled(labels)),
    )


def input_rows(table: Any, file: str, config: DataConfig) -> TableRows:
    """Read the inputs of one file's table, whatever else it holds."""
    return _reader(table, [table], [file], choose_columns(table.features, config, file))


def _reader(table: Any, pieces: Sequence[Any], files: Sequence[str], columns: Columns) -> TableRows:
    import datasets

    chosen = table.select_columns(list(columns.inputs))
    if columns.modality == "image":
        name = columns.inputs[0]
        if not columns_hold_paths(chosen.features[name]):
            chosen = chosen.cast_column(name, datasets.Image(decode=False))
    starts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])]).tolist()
    return TableRows(chosen, columns, tuple(files), tuple(starts))


def columns_hold_paths(feature: Any) -> bool:
    """Whether the image column is one of plain strings."""
    return getattr(feature, "dtype", "") in ("string", "large_string")


def _labels(
    tables: Mapping[str, Any], name: str, readers: Mapping[str, TableRows], where: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    feature = tables["train"].features[name]
    if not hasattr(feature, "dtype") or type(feature).__name__ == "Json":
        several = any(word in type(feature).__name__.lower() for word in ("list", "sequence"))
        shape = "lists: multi-label" if several else "mixed values: such"
        raise DataError(
            f"the label column {name!r} of {where} holds {shape} targets are not supported; "
            "name a column with one label a row with data.label_column"
        )
    encoded = encode_labels(
        {role: table.data.column(name) for role, table in tables.items()},
        classes=getattr(feature, "names", None) or (),
        what=f"the label column {name!r} of {where}",
        where=lambda role, row: readers[role].where(row),
    )
    codes: dict[str, Any] = dict(encoded.codes)
    for role, values in encoded.codes.items():
        if role != "train" and len(values) and (values == MISSING).all():
            codes[role] = None
    return codes, encoded.classes


def _unlabelled(labels: Mapping[str, Any]) -> list[str]:
    if labels["train"] is None:
        return []
    bare = [role for role, codes in labels.items() if codes is None]
    return [f"the {role} split has no labels: nothing can be scored on it" for role in bare]


def _bad_labels(reader: TableRows, codes: Any) -> dict[int, str]:
    missing = [] if codes is None else np.flatnonzero(codes == MISSING).tolist()
    return {row: f"{reader.where(row)}: the label is missing" for row in missing}


def _bad_inputs(reader: TableRows) -> dict[int, str]:
    """Find what can be seen without opening: nothing there, or a value that is no text."""
    import pyarrow.compute as pc

    bad: dict[int, str] = {}
    for name in reader.columns.inputs:
        column = reader.table.data.column(name)
        missing = np.flatnonzero(pc.is_null(column).to_numpy()).tolist()
        what = "the text is missing" if reader.columns.modality == "text" else "holds no image"
        bad |= {row: f"{reader.where(row)}: {what}" for row in missing}
        if type(reader.table.features[name]).__name__ == "Json":
            values = enumerate(reader.table[name])
            wrong = {row: value for row, value in values if not isinstance(value, str)}
            bad |= {row: f"{reader.where(row)}: {not_text(value)}" for row, value in wrong.items()}
    return bad
