"""Columns of labels or ids in files of others: npy, npz, safetensors, parquet, CSV, JSON, text."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from distill.datasets.columns import LABEL_NAMES
from distill.datasets.errors import DataError, damage, some
from distill.errors import nearest

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


def read_column(path: Path, *, key: str = "", rows: int, what: str = "labels") -> Column:
    """Read one value a row; ``rows`` is how many there should be.

    ``key`` names the array or column among several, ``what`` the values in errors. A .txt file
    and a .csv of one column hold a value a line, with or without a header: the content tells
    (``_is_header``), and a count that does not fit what it tells is refused.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there, or no file; {what} come from a file {FORMS}")
    suffix = path.suffix.lower()
    with _reading(path):
        if suffix in (".csv", ".tsv", ".txt"):
            column = _read_lines(path, suffix, key, rows, what)
        elif suffix in HOLDING_SEVERAL:
            column = _read(path, suffix, _chosen(path, key, _names(path, suffix)))
        elif suffix == ".npy":
            _refuse_key(path, key)
            column = Column(name="", values=np.load(path, allow_pickle=False))
        elif suffix == ".json":
            column = _read_json(path, key)
        else:
            raise DataError(f"{path}: {what} are read from {FORMS}, not from {suffix or 'this'}")
    if len(column.values) != rows:
        raise DataError(
            f"{path} holds {len(column.values)} {what} for {rows} rows; "
            "they must be of the same examples in the same order"
        )
    return column


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the readers say of a damaged file into one line that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, csv.Error) else damage(error)
        if not reason:
            raise
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


def _refuse_key(path: Path, key: str) -> None:
    if key:
        raise DataError(f"{path} holds one array without a name: --label-key does not apply")


def _names(path: Path, suffix: str) -> list[str]:
    if suffix == ".npz":
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
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
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
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


def _read_lines(path: Path, suffix: str, key: str, rows: int, what: str) -> Column:
    text = path.read_text(encoding="utf-8-sig")
    if suffix == ".txt":
        return _one_a_line(path, [line.strip() for line in text.splitlines()], key, rows, what)
    separator = "\t" if suffix == ".tsv" else max(",;\t", key=text.split("\n", 1)[0].count)
    lines = list(csv.reader(io.StringIO(text), delimiter=separator))
    table = [line for line in lines if line]
    if not table:
        raise DataError(f"{path} is empty")
    if len(table[0]) == 1:
        wide = [number for number, line in enumerate(lines, 1) if len(line) > 1]
        if wide:
            raise DataError(
                f"{path}: line {wide[0]} has {len(lines[wide[0] - 1])} columns, the first has one; "
                "put quotes around a value that holds a comma"
            )
        return _one_a_line(path, ["".join(line).strip() for line in lines], key, rows, what)
    name = _chosen(path, key, table[0])
    place = table[0].index(name)
    short = [number for number, line in enumerate(table, 1) if len(line) <= place]
    if short:
        raise DataError(f"{path}: line {short[0]} has no column {name!r}")
    return Column(name=name, values=[line[place] for line in table[1:]])


def _one_a_line(path: Path, cells: list[str], key: str, rows: int, what: str) -> Column:
    """Lines as values, under a header or none; a blank line is a value that is missing."""
    first = next(iter(cells), "")
    if key and key != first:
        raise DataError(f"{path} has no column {key!r}; its first line is {first!r}")
    header = bool(key) or _is_header(cells)
    values = cells[header:]
    while len(values) > rows and not values[-1]:  # blank lines at the end are no rows
        values.pop()
    if len(values) == rows:
        return Column(name=first if header else "", values=values)
    blank = f" (line {cells.index('') + 1} is blank)" if "" in values else ""
    over = f" under the header {first!r}" if header else ""
    cure = ""
    if header and len(values) == rows - 1:
        cure = f"; if {first!r} is itself one of them, put a header above it"
    elif first and not header and len(values) == rows + 1 and what == "labels":
        cure = f"; if {first!r} is a header, say so with --label-key {first!r}"
    raise DataError(
        f"{path} holds {len(values)} {what}{over} for {rows} rows{blank}; they must be of the "
        f"same examples in the same order{cure}"
    )


def _is_header(cells: Sequence[str]) -> bool:
    """Whether the first cell names the others: not by their number, which may be wrong.

    It does not occur again, and it bears a customary name, or is words over numbers, or is
    alone in that.
    """
    first, counts = cells[0] if cells else "", Counter(cell for cell in cells[1:] if cell)
    if not first or not counts or first in counts or _is_number(first):
        return False
    return (
        first.lower() in CUSTOMARY
        or all(_is_number(cell) for cell in counts)
        or min(counts.values()) > 1
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_json(path: Path, key: str) -> Column:
    held = json.loads(path.read_text(encoding="utf-8"))
    name = ""
    if isinstance(held, dict):
        name = _chosen(path, key, list(held))
        held = held[name]
    elif isinstance(held, list):
        _refuse_key(path, key)
    if not isinstance(held, list):
        raise DataError(f"{path} must hold a list of labels, or an object with one")
    return Column(name=name, values=held)
