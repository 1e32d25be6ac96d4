"""Label columns of any kind become class names and int64 codes, or one line saying why not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from distill.datasets.errors import DataError, some
from distill.errors import nearest

MISSING = -1
TELLING = 20  # rows from which "a different value in every row" says it is no class


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Codes of each split, indices into ``classes``; -1 where a row has no label."""

    classes: tuple[str, ...]
    codes: Mapping[str, Int64[np.ndarray, " n"]]


def encode_labels(
    columns: Mapping[str, Any],
    *,
    classes: Sequence[str] = (),
    what: str,
    where: Callable[[str, int], str] = lambda split, row: f"{split} row {row}",
) -> Labels:
    """Class names and codes of the label columns of all splits.

    A column is a list, a NumPy array or an Arrow array of names, integers or booleans. Without
    ``classes``, they are the sorted distinct values (numbers by value). With ``classes``, names
    must be among them and integers are indices; -1 is a missing label. ``what`` names the
    column in errors and ``where`` a row. Lists (multi-label), decimals (regression) and a
    column with another value in every row are refused.
    """
    arrays = {split: _arrow(values, what) for split, values in columns.items()}
    kinds = {split: _kind(array, what) for split, array in arrays.items() if len(array)}
    known = set(kinds.values()) - {"nothing"}
    if len(known) > 1:
        raise DataError(f"{what} holds {' and '.join(sorted(known))}; let every split hold names")
    kind = known.pop() if known else "nothing"
    if kind == "nothing":
        raise DataError(f"{what} holds no label at all; name another with data.label_column")
    if kind == "decimals":
        arrays = {split: _whole(array, what, split, where) for split, array in arrays.items()}
        kind = "integers"
    if kind == "integers" and classes:
        codes = {name: _indices(array, len(classes)) for name, array in arrays.items()}
        _refuse_outside(codes, arrays, classes, what, where)
        return Labels(classes=tuple(classes), codes=codes)
    arrays = {split: _names(array) for split, array in arrays.items()}
    if not classes:
        arrays = _without_placeholder(arrays)
        classes = _distinct(arrays, what)
        rows = sum(len(array) for array in arrays.values())
        if rows >= TELLING and len(classes) == rows:
            raise DataError(
                f"{what} has a different value in each of its {rows} rows: it does not hold "
                "classes; name another with data.label_column"
            )
    return Labels(classes=tuple(classes), codes=_lookup(arrays, classes, what, where))


def _arrow(values: Any, what: str) -> Any:
    """Make a ``pyarrow.ChunkedArray``; dictionary-encoded values are laid out plainly."""
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(
            f"{what} has shape {values.shape}, not (rows,): one label a row is needed "
            "(multi-label targets are not supported; turn one-hot rows into indices with argmax)"
        )
    try:
        array = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{what} mixes kinds of values: {str(error).splitlines()[0]}") from error
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array


def _kind(array: Any, what: str) -> str:
    from pyarrow import types

    held = array.type
    if types.is_null(held) or array.null_count == len(array):
        return "nothing"
    if types.is_string(held) or types.is_large_string(held) or types.is_boolean(held):
        return "names"
    if types.is_integer(held):
        return "integers"
    if types.is_floating(held):
        return "decimals"
    if types.is_nested(held):
        raise DataError(
            f"{what} holds lists: multi-label targets are not supported; "
            "name a column with one label a row with data.label_column"
        )
    raise DataError(f"{what} holds {held}, not names or integers")


def _whole(array: Any, what: str, split: str, where: Callable[[str, int], str]) -> Any:
    """Integers that a missing value turned into decimals; real decimals are no classes."""
    import pyarrow as pa

    values = array.to_numpy().astype(np.float64)
    missing = np.isnan(values)
    broken = ~missing & ~(np.isfinite(values) & (values == np.floor(values)))
    if broken.any():
        row = int(broken.argmax())
        raise DataError(
            f"{what} holds decimal numbers ({values[row]:g} at {where(split, row)}): regression "
            "targets are not supported, only classes"
        )
    whole = np.where(missing, 0.0, values).astype(np.int64)
    return pa.chunked_array([pa.array(whole, mask=missing)])


def _indices(array: Any, classes: int) -> Int64[np.ndarray, " n"]:
    """Integers as they are; a value that no index can be becomes ``classes``, which is refused."""
    import pyarrow as pa

    if pa.types.is_null(array.type):
        return np.full(len(array), MISSING, np.int64)
    values = array.fill_null(MISSING).to_numpy()
    return np.where(values < MISSING, classes, np.minimum(values, classes)).astype(np.int64)


def _refuse_outside(
    codes: Mapping[str, Int64[np.ndarray, " _"]],
    arrays: Mapping[str, Any],
    classes: Sequence[str],
    what: str,
    where: Callable[[str, int], str],
) -> None:
    for split, values in codes.items():
        outside = np.flatnonzero(values >= len(classes))
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"{what} holds {arrays[split][row].as_py()} at {where(split, row)}, but there are "
                f"{len(classes)} class names (0 to {len(classes) - 1})"
            )


def _names(array: Any) -> Any:
    """Values as strings; blank ones are missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = array.cast(pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), ""), None, text)


def _without_placeholder(arrays: dict[str, Any]) -> dict[str, Any]:
    """Read a test split that says -1 in every row, where train never does, as unlabelled."""
    import pyarrow as pa

    values = {split: set(array.unique().drop_null().to_pylist()) for split, array in arrays.items()}
    hidden = [split for split, held in values.items() if held == {"-1"} and split != "train"]
    if "-1" in values.get("train", set()):
        return arrays
    nothing = {
        name: pa.chunked_array([pa.nulls(len(arrays[name]), pa.string())]) for name in hidden
    }
    return arrays | nothing


def _distinct(arrays: Mapping[str, Any], what: str) -> list[str]:
    """Sorted distinct names; by value where all are numbers. Decimals are refused."""
    found = sorted(
        {name for array in arrays.values() for name in array.unique().to_pylist()} - {None}
    )
    if not found:
        raise DataError(f"{what} holds no label at all; name another with data.label_column")
    try:
        numbers = {name: float(name) for name in found}
    except ValueError:
        return found
    broken = [name for name, number in numbers.items() if number % 1 != 0]
    if broken:
        raise DataError(
            f"{what} holds decimal numbers ({broken[0]}): regression targets are not supported, "
            "only classes"
        )
    return sorted(found, key=lambda name: (numbers[name], name))


def _lookup(
    arrays: Mapping[str, Any],
    classes: Sequence[str],
    what: str,
    where: Callable[[str, int], str],
) -> dict[str, Int64[np.ndarray, " _"]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = {}
    for split, array in arrays.items():
        found = pc.index_in(array, value_set=pa.array(list(classes), pa.string()))
        unknown = pc.and_(pc.is_null(found), pc.is_valid(array)).to_numpy()
        if unknown.any():
            row = int(unknown.argmax())
            name = array[row].as_py()
            raise DataError(
                f"{what} holds {name!r} at {where(split, row)}, which is none of the class names "
                f"({some(classes, 5)}){nearest(name, classes)}"
            )
        codes[split] = found.fill_null(MISSING).to_numpy().astype(np.int64)
    return codes
