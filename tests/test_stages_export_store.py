"""Stores back into files that other tools read, whole or not at all."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from distill.errors import StageError
from distill.stages import import_features as module
from distill.stages.export_store import export_store
from stores import FeatureStore
from tests.features_examples import DIM, EXPECTED, NAMES, bring, names_file, npy, rows_of, stores


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    monkeypatch.setattr(module, "default_chunk_rows", lambda *_: 16)
    bring(tmp_path, npy(tmp_path), names_file(tmp_path))
    return stores(tmp_path)["train"]


def test_npy_and_back(tmp_path: Path, store: FeatureStore) -> None:
    made = export_store(store, tmp_path / "out.npy")
    assert (made.format, made.rows, made.dim) == ("npy", 68, DIM)
    rows = np.load(tmp_path / "out.npy", mmap_mode="r")
    np.testing.assert_array_equal(rows, store.features())
    np.testing.assert_array_equal(np.load(tmp_path / "out.ids.npy"), store.ids())
    np.testing.assert_array_equal(np.load(tmp_path / "out.labels.npy"), store.labels())
    files = [tmp_path / f"out{end}" for end in (".npy", ".ids.npy", ".labels.npy")]
    assert made.bytes == sum(file.stat().st_size for file in files)


def test_parquet_carries_class_names_and_imports_again(tmp_path: Path, store: FeatureStore) -> None:
    export_store(store, tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.field("features").type.list_size == DIM
    np.testing.assert_array_equal(np.stack(table["features"].to_numpy()), store.features())
    bring(tmp_path / "again", tmp_path / "out.parquet")
    ids = store.ids()
    found = rows_of(stores(tmp_path / "again"))
    assert found == {at: EXPECTED[int(example)] for at, example in enumerate(ids)}


def test_other_tools_read_the_class_names(tmp_path: Path, store: FeatureStore) -> None:
    import datasets

    export_store(store, tmp_path / "out.parquet")
    schema = parquet.read_schema(tmp_path / "out.parquet")
    features = datasets.Features.from_arrow_schema(schema)
    assert features["label"].names == list(NAMES)


def test_faiss_finds_each_row_under_its_own_id(tmp_path: Path, store: FeatureStore) -> None:
    import faiss

    export_store(store, tmp_path / "out.faiss")
    index = faiss.read_index(str(tmp_path / "out.faiss"))
    distances, found = index.search(store.features(), 1)
    np.testing.assert_array_equal(found[:, 0], store.ids())
    assert distances.max() < 1e-5  # squared, of float32 rows of length about 2.6
    query = store.features()[:1] + np.float32(0.5)
    exact = ((store.features() - query) ** 2).sum(axis=1)
    np.testing.assert_allclose(np.sort(exact)[:3], index.search(query, 3)[0][0], rtol=1e-5)


def test_nothing_is_overwritten_unless_told(tmp_path: Path, store: FeatureStore) -> None:
    (tmp_path / "out.labels.npy").write_bytes(b"mine")
    with pytest.raises(StageError, match=r"out\.labels\.npy is already there; name another file"):
        export_store(store, tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()
    export_store(store, tmp_path / "out.npy", overwrite=True)
    assert len(np.load(tmp_path / "out.labels.npy")) == 68


def test_labels_of_before_do_not_stay_beside_rows_without_any(
    tmp_path: Path, store: FeatureStore
) -> None:
    bring(tmp_path / "bare", npy(tmp_path))
    bare = stores(tmp_path / "bare")["train"]
    export_store(store, tmp_path / "out.npy")
    with pytest.raises(StageError, match="already there"):
        export_store(bare, tmp_path / "out.npy")
    assert (tmp_path / "out.labels.npy").exists()
    export_store(bare, tmp_path / "out.npy", overwrite=True)
    assert not (tmp_path / "out.labels.npy").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), bare.features())
    (tmp_path / "p.labels.npy").write_bytes(b"mine")
    export_store(bare, tmp_path / "p.parquet", overwrite=True)  # which has no file of labels
    assert (tmp_path / "p.labels.npy").exists()
    with pytest.raises(StageError, match=r"p\.labels\.npy is already there"):
        export_store(bare, tmp_path / "p.npy")
    assert not (tmp_path / "p.npy").exists()


@pytest.mark.parametrize("name", ["out.npy", "out.ids.npy", "out.parquet", "out.faiss"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_not_written_over(
    tmp_path: Path, store: FeatureStore, name: str, overwrite: bool
) -> None:
    (tmp_path / name).mkdir()
    to = tmp_path / name.replace(".ids", "")
    with pytest.raises(StageError, match=rf"{re.escape(name)} is a folder; name a file"):
        export_store(store, to, overwrite=overwrite)
    assert list((tmp_path / name).iterdir()) == []


def test_an_export_that_dies_leaves_nothing(
    tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(tmp_path.iterdir())

    class Dies:
        def task(self, *_: Any, **__: Any) -> Any:
            def advance(rows: int) -> None:
                raise OSError(28, "No space left on device")

            return nullcontext(advance)

        def say(self, text: str) -> None: ...
        def detail(self, text: str) -> None: ...

    for suffix in ("npy", "parquet", "faiss"):
        with pytest.raises(OSError, match="No space left"):
            export_store(store, tmp_path / f"out.{suffix}", progress=Dies())
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.h5", "'out.h5' is no format to export to; name the file .npy, .parquet or .faiss"),
        ("nowhere/out.npy", "there is no folder"),
    ],
)
def test_a_wrong_place_or_format_is_refused(
    tmp_path: Path, store: FeatureStore, name: str, words: str
) -> None:
    with pytest.raises(StageError, match=re.escape(words)):
        export_store(store, tmp_path / name)
