"""Columns of labels or ids in files of others: npy, npz, safetensors, parquet, CSV, JSON, text."""

import csv
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from distill.datasets.columns import LABEL_NAMES
from distill.datasets.errors import DataError, nearest, some

CUSTOMARY = (*LABEL_NAMES, "targets")
FORMS = ".npy, .npz, .safetensors, .parquet, .csv, .tsv, .json or .txt"
HOLDING_SEVERAL = (".npz", ".safetensors", ".parquet")  # features and labels in one file


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """A column of values, and the class names of its integers where the file gives them."""

    name: str  # "" where the file holds nothing else
    values: Any  # a NumPy array, a list or a pyarrow.ChunkedArray
    classes: tuple[str, ...] = ()


def find_labels(features: Path, key: str) -> Column | None:
    """Read the labels that lie in the file of the features, if they do; ``key`` must be there."""
    suffix = features.suffix.lower()
    if suffix not in HOLDING_SEVERAL:
        if key:
            raise DataError(f"{features} holds features only: give the labels their own file")
        return None
    if not features.is_file():
        return None  # whoever opens the features says so
    with _reading(features):
        names = _names(features, suffix)
        if key and key not in names:
            raise DataError(f"{features} has no {key!r}; it has {some(names)}{nearest(key, names)}")
        found = [key] if key else [n for word in CUSTOMARY for n in names if n.lower() == word]
        return _read(features, suffix, found[0]) if found else None


def read_column(path: Path, *, key: str = "", rows: int) -> Column:
    """Read one value a row; ``rows`` is how many there should be.

    ``key`` names the array or column among several. A .txt file holds one value a line; so does
    a .csv of one column, whose first line is a header if there is one line too many.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there, or no file; labels come from a file {FORMS}")
    suffix = path.suffix.lower()
    with _reading(path):
        if suffix in (".csv", ".tsv", ".txt"):
            column = _read_lines(path, suffix, key, rows)
        elif suffix in HOLDING_SEVERAL:
            column = _read(path, suffix, _chosen(path, key, _names(path, suffix)))
        elif suffix == ".npy":
            column = Column(name="", values=np.load(path, allow_pickle=False))
        elif suffix == ".json":
            column = _read_json(path, key)
        else:
            raise DataError(f"{path}: labels are read from {FORMS}, not from {suffix or 'this'}")
    if len(column.values) != rows:
        raise DataError(
            f"{path} holds {len(column.values)} values, the features have {rows} rows; "
            "they must be of the same examples in the same order"
        )
    return column


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the readers say of a damaged file into one line that names it."""
    try:
        yield
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError) or getattr(error, "errno", None) is not None:
            raise
        reason = (str(error) or "it ends too early").splitlines()[0][:200]
        if "pickle" in reason.lower():
            reason = "it holds pickled Python objects; save plain numbers or text"
        raise DataError(f"labels of {path} cannot be read: {reason}") from error


def _chosen(path: Path, key: str, names: Sequence[str]) -> str:
    if key:
        if key not in names:
            raise DataError(f"{path} has no {key!r}; it has {some(names)}{nearest(key, names)}")
        return key
    customary = [name for word in CUSTOMARY for name in names if name.lower() == word]
    if customary or len(names) == 1:
        return (customary or list(names))[0]
    raise DataError(f"{path} holds {some(names)}; name the labels with --label-key")


def _names(path: Path, suffix: str) -> list[str]:
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)
    if suffix == ".parquet":
        from pyarrow import parquet

        return list(parquet.read_schema(path).names)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _read(path: Path, suffix: str, name: str) -> Column:
    """One array of a file that holds several."""
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return Column(name=name, values=archive[name])
    if suffix == ".parquet":
        from pyarrow import parquet

        table = parquet.read_table(path, columns=[name])
        return Column(name=name, values=table[name], classes=_declared(table.schema, name))
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return Column(name=name, values=file.get_tensor(name))


def _declared(schema: Any, name: str) -> tuple[str, ...]:
    """Class names that Hugging Face ``datasets`` left in a parquet file."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(about["info"]["features"][name]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _read_lines(path: Path, suffix: str, key: str, rows: int) -> Column:
    text = path.read_text(encoding="utf-8-sig")
    if suffix == ".txt":
        return Column(name="", values=[line.strip() for line in text.splitlines()])
    separator = "\t" if suffix == ".tsv" else max(",;\t", key=text.split("\n", 1)[0].count)
    table = [line for line in csv.reader(text.splitlines(), delimiter=separator) if line]
    if not table:
        raise DataError(f"{path} is empty")
    if len(table[0]) == 1 and not key:
        return Column(name="", values=[line[0] for line in table[len(table) == rows + 1 :]])
    name = _chosen(path, key, table[0])
    place = table[0].index(name)
    short = [number for number, line in enumerate(table, 1) if len(line) <= place]
    if short:
        raise DataError(f"{path}: line {short[0]} has no column {name!r}")
    return Column(name=name, values=[line[place] for line in table[1:]])


def _read_json(path: Path, key: str) -> Column:
    held = json.loads(path.read_text(encoding="utf-8"))
    name = ""
    if isinstance(held, dict):
        name = _chosen(path, key, list(held))
        held = held[name]
    if not isinstance(held, list):
        raise DataError(f"{path} must hold a list of labels, or an object with one")
    return Column(name=name, values=held)
