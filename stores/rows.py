"""Rows on their way into a store: the right shape, finite, and within the stored type."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped

from stores.errors import InvalidRowsError
from stores.spec import Column, StoreSpec

Given = Mapping[str, np.ndarray | None]
Rows = dict[str, np.ndarray]


def stored_rows(spec: StoreSpec, index: int, given: Given) -> Rows:
    """Give the arrays of a chunk in stored types; ``InvalidRowsError`` names what is wrong.

    Whether floats are finite is left to ``refuse_not_finite``, a pass over all of them.
    """
    start, stop = spec.rows_of(index)
    _refuse_other_columns(spec, given)
    rows: Rows = {}
    for name, column in spec.columns.items():
        values = np.asarray(given[name])
        expected = (stop - start, *column.per_row)
        if values.shape != expected:
            raise InvalidRowsError(
                f"chunk {index} (rows {start} to {stop - 1}) takes {name} of shape {expected}, "
                f"got {values.shape}"
            )
        rows[name] = _converted(column, values)
    if spec.labelled and spec.classes:
        _refuse_unknown_labels(rows["labels"], rows["ids"], start, len(spec.classes))
    return rows


def refuse_not_finite(spec: StoreSpec, index: int, rows: Rows, given: Given) -> None:
    """Raise ``InvalidRowsError`` for the first row whose stored floats are not all finite."""
    start, _ = spec.rows_of(index)
    for name in ("features", "logits"):
        if name in rows:
            _refuse_not_finite(name, rows[name], np.asarray(given[name]), rows["ids"], start)


def _refuse_other_columns(spec: StoreSpec, given: Given) -> None:
    for name, values in given.items():
        if values is None and name in spec.columns:
            raise InvalidRowsError(f"this store holds {name}: give them with every chunk")
        if values is not None and name not in spec.columns:
            raise InvalidRowsError(f"this store holds no {name}: its spec leaves no room for them")


def _converted(column: Column, values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Values in the stored type. Integers must fit; floats are checked afterwards."""
    stored = np.dtype(column.dtype)
    fits = values.dtype.kind == "f" if stored.kind == "f" else np.can_cast(values.dtype, stored)
    if not fits or values.dtype.kind == "b":
        kind = "floating-point" if stored.kind == "f" else "integer"
        raise InvalidRowsError(f"{column.name} must be {kind} numbers, got {values.dtype}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, dtype=stored)


def _refuse_not_finite(
    name: str,
    stored: Shaped[np.ndarray, "rows dim"],
    given: Shaped[np.ndarray, "rows dim"],
    ids: Shaped[np.ndarray, " rows"],
    start: int,
) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(stored.sum()):  # NaN and infinity never leave a sum: the common case, fast
            return
    if np.isfinite(stored).all():  # large values, whose sum overflows
        return
    row, dim = (int(place[0]) for place in np.nonzero(~np.isfinite(stored)))
    value, example = given[row, dim], f"example {ids[row]} (row {start + row})"
    if np.isfinite(value):
        largest = np.finfo(stored.dtype).max
        raise InvalidRowsError(
            f"{example}: {name} hold {value:.6g} in dimension {dim}, beyond the {largest:.6g} of "
            f"{stored.dtype.name}; nothing of this chunk was written; use float32"
        )
    raise InvalidRowsError(
        f"{example}: {name} hold {value} in dimension {dim}; nothing of this chunk was written; "
        "look at what this example is, or at the precision it was computed in"
    )


def _refuse_unknown_labels(
    labels: Shaped[np.ndarray, " rows"],
    ids: Shaped[np.ndarray, " rows"],
    start: int,
    classes: int,
) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        row = int(wrong[0])
        raise InvalidRowsError(
            f"example {ids[row]} (row {start + row}) has label {labels[row]}; the store names "
            f"{classes} classes, 0 to {classes - 1}"
        )
