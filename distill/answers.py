"""Predictions as a file that other tools read: CSV, JSON or parquet, whole or not at all."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from distill.errors import StageError
from distill.findings import Prediction
from distill.whole import whole

COLUMNS = ("input", "label", "probability")


def check_answers(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before there is anything to lose. ``StageError``."""
    if path.suffix.lower() not in WRITERS:
        raise StageError(
            f"{path.name!r} is no file for predictions; name it .csv, .json or .parquet"
        )
    if not path.parent.is_dir():
        raise StageError(f"there is no folder {path.parent} to write {path.name} into")
    if path.is_dir():
        raise StageError(f"{path} is a folder; name a file to write")
    if path.exists() and not overwrite:
        raise StageError(f"{path} is already there; name another file or say --overwrite")


def write_answers(found: Sequence[Prediction], path: Path) -> None:
    """Write ``COLUMNS``, a row a prediction, in their order; the suffix says how."""
    with whole(path) as scratch:
        WRITERS[path.suffix.lower()](found, scratch)


def _write_csv(found: Sequence[Prediction], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([one.input, one.label, repr(one.probability)] for one in found)


def _write_json(found: Sequence[Prediction], path: Path) -> None:
    rows = [one.to_json() for one in found]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_parquet(found: Sequence[Prediction], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: [getattr(one, name) for one in found] for name in COLUMNS})
    pyarrow.parquet.write_table(table, path)


WRITERS: dict[str, Callable[[Sequence[Prediction], Path], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
