"""Small tables that tests of data sets write, load and compare."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from distill.config import DataConfig
from distill.datasets import Dataset, load_dataset


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Arrow copies go to a folder of the test's own, not to the user's cache."""
    import datasets

    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place)
    return place


def load(name: str, **settings: object) -> Dataset:
    return load_dataset(DataConfig.model_validate({"name": name, **settings}))


def write_parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)
    return path


def write_declared(path: Path, table: pa.Table, names: list[str]) -> None:
    """Texts and labels whose column says what the numbers are called, as the hub's files do."""
    features: dict[str, Any] = {"label": {"names": names, "_type": "ClassLabel"}}
    features["text"] = {"dtype": "string", "_type": "Value"}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(about), path)


def sentences(count: int, word: str = "sentence") -> list[str]:
    return [f"{word} {row}" for row in range(count)]


def rows_by_id(found: Dataset) -> dict[int, tuple[Any, int | None]]:
    return {
        int(example): (split.inputs[at], None if split.labels is None else int(split.labels[at]))
        for split in found.splits.values()
        for at, example in enumerate(split.ids)
    }


def write_csv(path: Path, header: str, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
