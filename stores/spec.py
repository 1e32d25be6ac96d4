"""What a store promises: how many rows of what, in which chunks, and who made them."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import index as as_int
from typing import Any

import numpy as np

from stores.errors import SpecError, StoreMismatchError

DTYPES = {"float32": "<f4", "float16": "<f2"}  # of stored features: name -> NumPy, little-endian
CHUNK_BYTES = 4 * 2**20  # of features in a chunk: the fastest size on disks and in page cache
NOT_COMPARED = "versions"  # in made_by: a new library version does not make another store


@dataclass(frozen=True)
class Column:
    """One array of a store: ``width`` numbers a row, or one number where ``width`` is 0."""

    name: str
    dtype: str  # NumPy's, little-endian
    width: int

    @property
    def per_row(self) -> tuple[int, ...]:
        """Shape of one row: ``(width,)``, or ``()`` for a single number."""
        return (self.width,) if self.width else ()

    @property
    def fill(self) -> float | int:
        """Pads the last chunk; what a missing chunk reads as in any other zarr library.

        Never a plausible zero: labels of 0 are a class, features of 0 a ReLU's.
        """
        return float("nan") if np.dtype(self.dtype).kind == "f" else -1


@dataclass(frozen=True, kw_only=True)
class StoreSpec:
    """The shape of a store and its origin, fixed when it is begun.

    ``rows`` counts stored rows: examples x ``views``, an example's views one after the other.
    ``logits`` is the number of classes of the logits (0: none are stored), ``classes`` the names
    of the labels (empty: not named). ``made_by`` is whatever identifies what made the rows, as
    JSON; its ``versions`` are recorded but never compared. Wrong values raise ``SpecError``.
    """

    rows: int
    dim: int
    dtype: str = "float32"
    logits: int = 0
    labelled: bool = True
    classes: tuple[str, ...] = ()
    views: int = 1
    chunk_rows: int
    made_by: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name, least in (
            ("rows", 1),
            ("dim", 1),
            ("chunk_rows", 1),
            ("views", 1),
            ("logits", 0),
        ):
            object.__setattr__(self, name, _at_least(name, getattr(self, name), least))
        if self.dtype not in DTYPES:
            raise SpecError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.rows % self.views:
            raise SpecError(f"{self.rows} rows are not a whole number of {self.views} views each")
        if not all(isinstance(name, str) for name in self.classes):
            raise SpecError("classes must be names (text)")
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "made_by", _plain_json(self.made_by))

    @property
    def chunks(self) -> int:
        """How many units of work the rows are cut into; the last may be shorter."""
        return -(-self.rows // self.chunk_rows)

    def rows_of(self, index: int) -> tuple[int, int]:
        """First row of a chunk, and the row after its last."""
        if not 0 <= index < self.chunks:
            raise SpecError(f"there is no chunk {index}: the chunks are 0 to {self.chunks - 1}")
        start = index * self.chunk_rows
        return start, min(start + self.chunk_rows, self.rows)

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of the store, ``features`` last: its chunk completes a unit of work."""
        columns = [Column("ids", "<i8", 0)]
        if self.labelled:
            columns.append(Column("labels", "<i8", 0))
        if self.logits:
            columns.append(Column("logits", "<f4", self.logits))
        columns.append(Column("features", DTYPES[self.dtype], self.dim))
        return {column.name: column for column in columns}

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"classes": list(self.classes), "made_by": dict(self.made_by)}

    def compared(self) -> dict[str, Any]:
        """Tell what makes this store another one than the next: all but library versions."""
        made_by = {key: value for key, value in self.made_by.items() if key != NOT_COMPARED}
        return self.to_json() | {"made_by": made_by}


def default_chunk_rows(dim: int, dtype: str, *, most: int | None = None) -> int:
    """Rows of about 4 MB of features: at least 1, and at most ``most``."""
    if dtype not in DTYPES:
        raise SpecError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if dim < 1:
        raise SpecError(f"dim must be at least 1, got {dim}")
    rows = max(1, CHUNK_BYTES // (dim * np.dtype(DTYPES[dtype]).itemsize))
    return rows if most is None else max(1, min(rows, most))


def even_chunk_rows(rows: int, most: int, *, multiple: int = 1) -> int:
    """Rows a chunk that cut ``rows`` into as few chunks as ``most`` allows, all about as long.

    A whole number of ``multiple``, which ``most`` must hold once. The last chunk is written at its
    full size, so that one long chunk for a few rows would be mostly padding.
    """
    units = max(1, most // multiple)
    chunks = max(1, math.ceil(rows / (units * multiple)))
    return max(1, math.ceil(rows / (chunks * multiple))) * multiple


def refuse_mismatch(where: object, recorded: StoreSpec, asked: StoreSpec) -> None:
    """Raise ``StoreMismatchError`` naming the first few values in which two specs differ."""
    found = list(_differences(recorded.compared(), asked.compared(), ""))
    if not found:
        return
    told = "; ".join(f"{key} is {_short(a)} there and {_short(b)} here" for key, a, b in found[:3])
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    raise StoreMismatchError(
        f"the store at {where} was made by something else: {told}{more}; "
        "choose another place, or delete it to make it anew"
    )


class _Absent:
    """A key that one side does not have."""

    def __repr__(self) -> str:
        return "absent"


def _differences(a: Any, b: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Leaves of two JSON values that differ: their dotted key and both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            inner = f"{key}.{name}" if key else name
            yield from _differences(a.get(name, _Absent()), b.get(name, _Absent()), inner)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for position, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from _differences(left, right, f"{key}[{position}]")
    elif type(a) is not type(b) or a != b:
        yield key, a, b


def _short(value: Any) -> str:
    """Enough of a value to recognise it by."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}…{text[-19:]}"


def _at_least(name: str, value: Any, least: int) -> int:
    try:
        number = as_int(value)
    except TypeError:
        raise SpecError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise SpecError(f"{name} must be at least {least}, got {number}")
    return number


def _plain_json(made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Copy as it will be read back (tuples become lists), so that specs compare after a trip."""
    try:
        plain = json.loads(json.dumps(dict(made_by), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SpecError(f"made_by must be plain JSON: {error}") from None
    return dict(plain)
