"""Parquet, CSV and JSON files, read through ``datasets`` as memory-mapped Arrow.

The Arrow copy lies in the user's Hugging Face cache; nothing is written beside the data.
"""

import csv
import glob
import gzip
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.config import DataConfig
from distill.datasets.base import Source
from distill.datasets.errors import DataError, some
from distill.datasets.paths import digest_of, existing_files
from distill.datasets.roles import chosen_roles
from distill.datasets.tables import TableRows, input_rows, table_source
from distill.errors import first_line

if TYPE_CHECKING:
    import pyarrow as pa

JSON = (".json", ".jsonl", ".ndjson")
DELIMITERS = ",;\t|"
TABLES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}


def load_parquet(place: str, config: DataConfig) -> Source:
    """One parquet file, a folder of them, or a glob pattern."""
    files = existing_files(place, (".parquet",), "parquet:PATH")
    _same_features(files)
    return _load("parquet", files, config, _no_options)


def load_csv(place: str, config: DataConfig) -> Source:
    """CSV files with a header; every cell is read as it is written, an empty one is missing."""
    return _load("csv", existing_files(place, (".csv", ".tsv"), "csv:PATH"), config, _csv_options)


def load_json(place: str, config: DataConfig) -> Source:
    """JSON files: one object a line, or one list of objects."""
    files = existing_files(place, JSON, "json:PATH")
    return _load("json", files, config, _no_options)


def open_table(file: Path, config: DataConfig) -> TableRows:
    """Inputs of one such file: no labels are looked for, and no splits. ``DataError``."""
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty (0 bytes); give another")
    builder = TABLES[file.suffix.lower()]
    options = _csv_options(file) if builder == "csv" else {}
    return input_rows(_table(builder, file, options), str(file), config)


def open_columns(
    config: DataConfig, name: str
) -> dict[str, list[tuple["pa.ChunkedArray", str]]] | None:
    """A column of each file of each split, memory-mapped, and the file: of parquet or JSON files.

    None for data of another form, and where the column is not in all of the files.
    """
    kind, _, place = config.name.partition(":")
    endings = {"parquet": (".parquet",), "json": JSON, "jsonl": JSON}.get(kind)
    if endings is None:
        return None
    builder = "parquet" if kind == "parquet" else "json"
    roles = split_files(existing_files(place, endings, f"{kind}:PATH"), config)
    found: dict[str, list[tuple[pa.ChunkedArray, str]]] = {}
    for role, files in roles.items():
        tables = [_table(builder, file, {}) for file in files]
        if any(name not in table.features for table in tables):
            return None
        columns = [table.data.column(name) for table in tables]
        found[role] = list(zip(columns, map(str, files), strict=True))
    return found


def _load(
    builder: str,
    files: Sequence[Path],
    config: DataConfig,
    options: Callable[[Path], dict[str, Any]],
) -> Source:
    for file in files:
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty (0 bytes); remove it or give another")
    roles = split_files(files, config)
    tables = {
        role: [_table(builder, file, options(file)) for file in chosen]
        for role, chosen in roles.items()
    }
    first = tables["train"][0].features
    for role, found in tables.items():
        for file, table in zip(roles[role], found, strict=True):
            if list(table.features) != list(first) and set(table.features) != set(first):
                raise DataError(
                    f"{file} has other columns ({some(table.features)}) than {roles['train'][0]} "
                    f"({some(first)}); give files of one data set"
                )
    return table_source(
        tables,
        {role: [str(file) for file in chosen] for role, chosen in roles.items()},
        config,
        where=str(roles["train"][0]),
        content=" ".join([builder, *(f"{r} {digest_of(chosen)}" for r, chosen in roles.items())]),
    )


def split_files(files: Sequence[Path], config: DataConfig) -> dict[str, list[Path]]:
    """Which files make up which split: one file is train, several say it in their names."""
    if len(files) == 1:
        return {"train": list(files)}
    root = Path(os.path.commonpath([file.parent for file in files]))
    names = {file.relative_to(root).as_posix(): file for file in files}
    found = chosen_roles(list(names), config, f"{root}", must=())
    named = [name for chosen in found.values() for name in chosen]
    if not named:
        return {"train": list(files)}  # the shards of one split
    if not found["train"]:
        raise DataError(
            f"none of {some(names)} in {root} is named after {config.train_split!r}; "
            "name the training files with data.train_split"
        )
    for name in names:
        if named.count(name) != 1:
            which = "no split" if name not in named else "several splits"
            raise DataError(
                f"{names[name]} is named after {which}, while other files there are named after "
                f"one; give a narrower path, or names with train, validation or test"
            )
    return {role: [names[name] for name in chosen] for role, chosen in found.items() if chosen}


def _table(builder: str, file: Path, options: Mapping[str, Any]) -> Any:
    """One file as a memory-mapped table."""
    import datasets

    name = glob.escape(str(file.absolute()))
    with quiet_datasets(), reading(str(file), builder):
        return datasets.load_dataset(builder, data_files={"rows": [name]}, split="rows", **options)


@contextmanager
def reading(where: str, form: str) -> Iterator[None]:
    """Turn what ``datasets`` and its readers say into one line that names the file."""
    import datasets

    try:
        yield
    except (datasets.exceptions.DatasetsError, ValueError, OSError, TypeError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, OSError) and cause.errno is not None:
            raise  # disk full, no permission: the system's own words
        reason = first_line(cause)
        if "corresponds to no data" in reason:
            raise DataError(f"{where} has no rows; remove it or give another") from error
        raise DataError(f"{where} cannot be read as {form}: {reason}") from error


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """No progress bars and no log lines of ``datasets`` and the hub; their state is restored."""
    import datasets
    from huggingface_hub.utils import logging as hub_logging

    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    hub_level = hub_logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    hub_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        hub_logging.set_verbosity(hub_level)
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


def _same_features(files: Sequence[Path]) -> None:
    """Refuse files whose columns or class names differ: codes would silently change meaning."""
    import datasets
    import pyarrow as pa
    from pyarrow import parquet

    first: Any = None
    for file in files:
        try:
            about = parquet.read_metadata(file)
            features = datasets.Features.from_arrow_schema(about.schema.to_arrow_schema())
        except pa.ArrowInvalid as error:
            raise DataError(f"{file} is not a parquet file, or a damaged one: {error}") from error
        if about.num_rows == 0:
            raise DataError(f"{file} has no rows; remove it or give another")
        first = features if first is None else first
        differing = [name for name in {*first, *features} if features.get(name) != first.get(name)]
        if differing:
            raise DataError(
                f"{file} and {files[0]} differ in column {min(differing)!r} (its type or its class "
                "names); give files of one data set"
            )


def _no_options(_: Path) -> dict[str, Any]:
    return {}


def _csv_options(file: Path) -> dict[str, Any]:
    """Every column as text: labels and text stay as written ('007', 'NA'); '' is missing."""
    import datasets

    opening = gzip.open if file.suffix.lower() == ".gz" else open
    try:
        with opening(file, "rt", encoding="utf-8-sig", newline="") as stream:
            line = stream.readline()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text; save it as UTF-8") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{file} is no sound gzip file: {first_line(error)}") from error
    delimiter = max(DELIMITERS, key=line.count)
    header = next(csv.reader([line], delimiter=delimiter), [])
    if not header or "" in header or len(set(header)) < len(header):
        raise DataError(
            f"{file} needs a first line that names every column once; it begins {line[:60]!r}"
        )
    return {
        "sep": delimiter,
        "encoding": "utf-8-sig",
        "keep_default_na": False,
        "na_values": [""],
        "features": datasets.Features({name: datasets.Value("string") for name in header}),
    }
