"""Rows go in and come out: types, ranges, refusals, and the same bytes as zarr's own."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zarr.codecs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stores import (
    IncompleteStoreError,
    InvalidRowsError,
    MissingStoreError,
    StoreDamagedError,
    StoreError,
    create_store,
    open_splits,
    open_store,
)
from tests.stores_examples import digests, fill, rows_of, small_spec, write


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_come_back_as_they_went_in(tmp_path: Path, dtype: str) -> None:
    spec = small_spec(dtype=dtype)
    store = open_store(fill(tmp_path / "train", spec))
    given_rows = rows_of(spec, 0, 10)
    assert store.features().dtype == np.dtype(dtype)
    np.testing.assert_array_equal(store.features(), given_rows["features"].astype(dtype))
    np.testing.assert_array_equal(store.ids(), given_rows["ids"])
    np.testing.assert_array_equal(store.labels(), given_rows["labels"])
    np.testing.assert_array_equal(store.logits(), given_rows["logits"])
    assert store.logits().dtype == np.float32


@given(ends=st.tuples(st.integers(0, 10), st.integers(0, 10)))
def test_any_range_of_rows_is_that_range(
    ends: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "ranges" / "train"
    spec = small_spec()
    store = open_store(path if path.exists() else fill(path, spec))
    start, stop = sorted(ends)
    whole = rows_of(spec, 0, 10)
    np.testing.assert_array_equal(store.features(start, stop), whole["features"][start:stop])
    np.testing.assert_array_equal(store.logits(start, stop), whole["logits"][start:stop])


def test_rows_outside_the_store_are_refused(tmp_path: Path) -> None:
    store = open_store(fill(tmp_path / "train", small_spec()))
    for start, stop in ((0, 11), (-1, 4), (5, 4)):
        with pytest.raises(StoreError, match=f"rows {start} to {stop} are not within 0 to 10"):
            store.features(start, stop)


def test_chunks_hold_what_was_asked_for_and_nothing_else(tmp_path: Path) -> None:
    store = open_store(fill(tmp_path / "train", small_spec()))
    chunks = list(store.chunks(("features", "labels")))
    assert [(c.index, c.start, c.stop, len(c.ids)) for c in chunks] == [
        (0, 0, 4, 4),
        (1, 4, 8, 4),
        (2, 8, 10, 2),
    ]
    assert all(chunk.logits is None for chunk in chunks)
    features = [chunk.features for chunk in chunks if chunk.features is not None]
    np.testing.assert_array_equal(np.concatenate(features), store.features())
    np.testing.assert_array_equal(np.concatenate([c.ids for c in chunks]), store.ids())
    labels = [chunk.labels for chunk in chunks if chunk.labels is not None]
    np.testing.assert_array_equal(np.concatenate(labels), store.labels())


def test_columns_that_are_not_asked_for_are_not_read(tmp_path: Path) -> None:
    store = open_store(fill(tmp_path / "train", small_spec()))
    (store.path / "features/c.1.0").unlink()
    assert len(list(store.chunks(("labels",)))) == 3


def test_a_store_without_labels_or_logits_has_none(tmp_path: Path) -> None:
    spec = small_spec(labelled=False, logits=0, classes=())
    store = open_store(fill(tmp_path / "train", spec))
    assert not (store.path / "labels").exists()
    with pytest.raises(StoreError, match="holds no labels, only ids, features"):
        store.labels()
    with pytest.raises(StoreError, match="holds no logits"):
        next(store.chunks(("logits",)))
    (chunk, *_) = store.chunks()
    assert chunk.labels is None


def test_views_are_rows_of_the_same_example(tmp_path: Path) -> None:
    spec = small_spec(rows=6, views=2, logits=0, labelled=False, classes=(), chunk_rows=6)
    features = np.arange(18, dtype=np.float32).reshape(6, 3)
    with create_store(tmp_path / "train", spec) as writer:
        writer.write(0, ids=np.repeat([5, 9, 2], 2), features=features)
    store = open_store(tmp_path / "train")
    examples = store.features().reshape(-1, store.spec.views, store.spec.dim)
    np.testing.assert_array_equal(examples[1], features[2:4])
    np.testing.assert_array_equal(store.ids()[:: store.spec.views], [5, 9, 2])


def refused(tmp_path: Path, told: str, spec: dict[str, Any], **changes: Any) -> None:
    """Chunk 1 with ``changes`` is refused, and nothing of it is on disk."""
    with create_store(tmp_path / "train", small_spec(**spec)) as writer:
        rows: dict[str, Any] = rows_of(writer.spec, 4, 8)
        with pytest.raises(InvalidRowsError, match=told) as caught:
            writer.write(1, **(rows | changes))
        assert "\n" not in str(caught.value)
        assert writer.pending() == [0, 1, 2]
    assert not [name for name in digests(tmp_path / "train") if "/c." in name]


def with_value(value: float, dtype: str = "float32") -> np.ndarray:
    features = np.zeros((4, 3), dtype=dtype)
    features[2, 1] = value
    return features


def test_nan_and_infinity_name_their_example_and_row(tmp_path: Path) -> None:
    # row 6 is example 6 * 7 - 3 = 39
    refused(
        tmp_path,
        re.escape("example 39 (row 6): features hold nan in dimension 1; nothing of this chunk"),
        {},
        features=with_value(np.nan),
    )
    refused(tmp_path, "features hold -inf in dim", {}, features=with_value(-np.inf))
    logits = np.zeros((4, 2), dtype=np.float32)
    logits[3, 0] = np.nan
    refused(tmp_path, r"example 46 \(row 7\): logits hold nan in dim", {}, logits=logits)


def test_what_float16_cannot_hold_is_refused_not_stored_as_infinity(tmp_path: Path) -> None:
    told = re.escape("(row 6): features hold 70000 in dimension 1, beyond the 65504 of float16")
    refused(tmp_path / "half", told, {"dtype": "float16"}, features=with_value(70000.0))
    told = re.escape("hold 1e+39 in dimension 1, beyond the 3.40282e+38 of float32")
    refused(tmp_path, told, {}, features=with_value(1e39, "float64"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"features": np.zeros((4, 2), np.float32)}, r"shape \(4, 3\), got \(4, 2\)"),
        ({"features": np.zeros((3, 3), np.float32)}, r"\(rows 4 to 7\) takes features of shape"),
        ({"features": np.zeros((4, 3), np.int64)}, "floating-point numbers, got int64"),
        ({"ids": np.zeros(4, np.float64)}, "ids must be integer numbers, got float64"),
        ({"ids": np.zeros(4, np.uint64)}, "ids must be integer numbers, got uint64"),
        ({"ids": np.zeros(4, np.bool_)}, "ids must be integer numbers, got bool"),
        ({"labels": np.zeros((4, 1), np.int64)}, r"labels of shape \(4,\), got \(4, 1\)"),
        ({"labels": None}, "this store holds labels: give them with every chunk"),
        ({"labels": np.array([0, 1, 2, 0])}, r"example 39 \(row 6\) has label 2; the store names"),
        ({"labels": np.array([0, -1, 0, 0])}, r"\(row 5\) has label -1"),
    ],
)
def test_rows_of_the_wrong_kind_are_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    refused(tmp_path, told, {}, **changes)


def test_columns_the_spec_leaves_no_room_for_are_refused(tmp_path: Path) -> None:
    logits = np.zeros((4, 2), np.float32)
    refused(tmp_path, "this store holds no logits", {"logits": 0}, logits=logits)


def test_a_chunk_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "train"
    with create_store(path, small_spec()) as writer:
        write(writer, 2)
        with pytest.raises(StoreError, match=r"chunk 2 of the store at .* is already written"):
            write(writer, 2)
    fill(path, small_spec())
    before = digests(path)
    with create_store(path, small_spec()) as writer:
        assert writer.pending() == []
        with pytest.raises(StoreError, match="is already written"):
            write(writer, 0)
    assert digests(path) == before


def test_the_order_in_which_chunks_are_written_leaves_no_trace(tmp_path: Path) -> None:
    with create_store(tmp_path / "backwards", small_spec()) as writer:
        for index in reversed(writer.pending()):
            write(writer, index)
    assert digests(tmp_path / "backwards") == digests(fill(tmp_path / "straight", small_spec()))


def test_a_store_with_something_pending_is_not_data(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr" / "train"
    with create_store(path, small_spec()) as writer:
        write(writer, 0)
    with pytest.raises(IncompleteStoreError, match=r"never finished: run the stage"):
        open_store(path)
    with pytest.raises(IncompleteStoreError, match=r"features\.zarr/train"):
        open_splits(path.parent)


def test_an_error_in_the_block_does_not_complete_the_store(tmp_path: Path) -> None:
    def fill_and_fail() -> None:
        with create_store(tmp_path / "train", small_spec()) as into:
            for index in into.pending():
                write(into, index)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill_and_fail()
    with pytest.raises(IncompleteStoreError):
        open_store(tmp_path / "train")
    assert open_store(fill(tmp_path / "train", small_spec())).spec.rows == 10


def test_no_store_is_said_to_be_missing(tmp_path: Path) -> None:
    for absent in (tmp_path / "train", tmp_path):
        with pytest.raises(MissingStoreError, match="there is no store at"):
            open_store(absent)
    with pytest.raises(MissingStoreError, match="there is no store in"):
        open_splits(tmp_path / "features.zarr")


def test_splits_come_in_the_order_of_their_use(tmp_path: Path) -> None:
    root = tmp_path / "features.zarr"
    for name in ("b-extra", "test", "a-extra", "validation", "train"):
        fill(root / name, small_spec())
    assert list(open_splits(root)) == ["train", "validation", "test", "a-extra", "b-extra"]
    (root / "holdout").mkdir()  # killed before its first file was in place
    with pytest.raises(IncompleteStoreError, match="holdout was begun but never finished"):
        open_splits(root)


@pytest.mark.parametrize("name", ["features/c.1.0", "ids/c.1", "labels/c.1", "logits/c.1.0"])
def test_a_chunk_that_is_gone_or_false_is_never_read(tmp_path: Path, name: str) -> None:
    store = open_store(fill(tmp_path / "train", small_spec()))
    column, file = name.split("/", maxsplit=1)[0], store.path / name
    sound = file.read_bytes()
    whole: Any = getattr(store, column)

    def damaged(told: str) -> None:
        with pytest.raises(StoreDamagedError, match=rf"{told}: chunk 1, rows 4 to 7; repair"):
            whole()

    for place in range(len(sound)):
        changed = bytearray(sound)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        damaged("fails its checksum")
    file.write_bytes(sound[:-1])
    damaged(f"has {len(sound) - 1} bytes instead of {len(sound)}")
    file.write_bytes(b"")
    damaged(f"has 0 bytes instead of {len(sound)}")
    file.write_bytes((store.path / name.replace("c.1", "c.0")).read_bytes())
    damaged("holds another chunk than was written there")
    file.unlink()
    damaged("is missing")
    file.write_bytes(sound)
    assert len(whole()) == 10


def test_damaged_array_documents_are_refused_on_opening(tmp_path: Path) -> None:
    path = fill(tmp_path / "train", small_spec())
    document = path / "labels" / "zarr.json"
    document.write_text(document.read_text().replace('"fill_value": -1', '"fill_value": 0'))
    with pytest.raises(StoreDamagedError, match=r"labels/zarr\.json is missing or damaged"):
        open_store(path)


def test_a_store_of_a_later_format_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.layout.FORMAT", 2)
    path = fill(tmp_path / "train", small_spec())
    monkeypatch.undo()
    with pytest.raises(StoreError, match="has format 2, this version reads 1: use the version"):
        open_store(path)


def test_a_zarr_group_of_someone_else_is_no_store(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "other")
    with pytest.raises(StoreDamagedError, match="is damaged, or not a feature store's"):
        open_store(tmp_path / "other")


# zarr defines the bytes


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_zarr_reads_the_store_without_a_warning(tmp_path: Path, dtype: str) -> None:
    root = tmp_path / "features.zarr"
    store = open_store(fill(root / "train", small_spec(dtype=dtype)))
    group: Any = zarr.open_group(root, mode="r")
    assert [name for name, _ in group.groups()] == ["train"]
    assert sorted(name for name, _ in group["train"].arrays()) == sorted(store.spec.columns)
    for name in store.spec.columns:
        mine: Any = getattr(store, name)()
        np.testing.assert_array_equal(group["train"][name][:], mine)
        assert group["train"][name].dtype == mine.dtype
    recorded = group["train"].attrs["feature_store"]["spec"]["made_by"]
    assert recorded == dict(store.spec.made_by)


@given(
    features=st.integers(1, 9).flatmap(
        lambda rows: arrays(np.float32, (rows, 3), elements=st.floats(-1e4, 1e4, width=32))
    ),
    chunk_rows=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "float16"]),
)
def test_every_chunk_is_what_zarr_would_have_written(
    features: np.ndarray,
    chunk_rows: int,
    dtype: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    settings = {"logits": 0, "classes": (), "chunk_rows": chunk_rows, "dtype": dtype}
    spec = small_spec(rows=len(features), **settings)
    labels = np.zeros(len(features), np.int64)  # all class 0: an "empty" chunk to zarr
    with create_store(folder / "ours", spec) as writer:
        for index in writer.pending():
            rows = slice(*spec.rows_of(index))
            writer.write(index, ids=labels[rows], labels=labels[rows], features=features[rows])
    for name, values, fill_value in (
        ("features", features.astype(dtype), np.nan),
        ("labels", labels, -1),
    ):
        array = zarr.create_array(
            folder / "zarrs" / name,
            shape=values.shape,
            chunks=(chunk_rows, *values.shape[1:]),
            dtype=values.dtype,
            fill_value=fill_value,
            compressors=[zarr.codecs.Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "."},
            config={"write_empty_chunks": True},
        )
        array[...] = values
        ours, theirs = (digests(folder / side / name) for side in ("ours", "zarrs"))
        del ours["zarr.json"], theirs["zarr.json"]
        assert ours == theirs
        assert len(ours) == spec.chunks


def test_elsewhere_a_missing_chunk_reads_as_nothing_plausible(tmp_path: Path) -> None:
    path = fill(tmp_path / "train", small_spec())
    (path / "features/c.1.0").unlink()
    (path / "labels/c.1").unlink()
    group: Any = zarr.open_group(path, mode="r")
    assert np.isnan(group["features"][4:8]).all()
    assert (group["labels"][4:8] == -1).all()
