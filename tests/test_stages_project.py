"""Projecting stores: the right rows, all targets in one pass, clear refusals."""

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.errors import StageError
from distill.progress import Silent
from distill.stages import project as stage
from distill.stages.project import Target, dim_for_factor, project
from projections import make_projection
from stores import (
    FeatureStore,
    InvalidRowsError,
    StoreDamagedError,
    StoreLockedError,
    StoreMismatchError,
    create_store,
    open_splits,
    open_store,
)
from tests.project_examples import CHUNK, DIM, ROWS, bytes_in, drawn, filled, sources_in, targets_in


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of two source chunks each, so that small data has many."""
    monkeypatch.setattr(stage, "MOST_CHUNK_ROWS", 2 * CHUNK + 1)


@pytest.fixture
def chunk_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often each chunk of features has been read, by store and number."""
    reads: Counter[tuple[str, int]] = Counter()
    read_into = FeatureStore.read_into

    def counted(self: FeatureStore, column: Any, index: int, into: Any) -> None:
        if column.name == "features":
            reads[self.path.name, index] += 1
        read_into(self, column, index, into)

    monkeypatch.setattr(FeatureStore, "read_into", counted)
    return reads


@dataclass(frozen=True)
class ByHand:
    """Keeps the second of three numbers, doubled, and the sum of all."""

    kind: str = "by-hand"
    dim_in: int = 3
    dim_out: int = 2
    seed: int = 0

    @property
    def matrix(self) -> np.ndarray:
        return np.array([[0, 1], [2, 1], [0, 1]], dtype=np.float32)

    def transform(self, X: np.ndarray) -> np.ndarray:
        mapped: np.ndarray = X @ self.matrix
        return mapped

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind}


def test_rows_by_hand(tmp_path: Path) -> None:
    features = np.array([[1, 2, 3], [4, 5, 6], [-1, 0, 1]], dtype=np.float32)
    source = filled(tmp_path / "f.zarr" / "all", features, chunk_rows=2)
    target = Target("hand", 1.5, ByHand(), tmp_path / "p.zarr")
    assert project({"all": source}, [target], progress=Silent()) == 3
    made = open_store(tmp_path / "p.zarr" / "all")
    np.testing.assert_array_equal(made.features(), [[4, 6], [10, 15], [0, 0]])
    np.testing.assert_array_equal(made.ids(), [1000, 1003, 1006])
    np.testing.assert_array_equal(made.labels(), [0, 1, 2])


@pytest.mark.usefixtures("small_chunks")
def test_every_split_and_target_is_the_product(tmp_path: Path) -> None:
    sources, targets = sources_in(tmp_path), targets_in(tmp_path)
    written = project(sources, targets, progress=Silent())
    assert written == 4 * sum(ROWS.values())
    for target in targets:
        made = open_splits(target.root)
        assert list(made) == ["train", "validation", "test"]
        for split, source in sources.items():
            exact = source.features().astype(np.float64) @ target.projection.matrix
            assert made[split].features().dtype == np.float32
            np.testing.assert_allclose(made[split].features(), exact, atol=1e-5)
            np.testing.assert_array_equal(made[split].ids(), source.ids())
            np.testing.assert_array_equal(made[split].labels(), source.labels())


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("rows", [1, 9, 10, 11, 20, 21, 31, 41])
def test_any_number_of_rows_comes_out_whole(tmp_path: Path, rows: int) -> None:
    source = filled(tmp_path / "f.zarr" / "all", drawn(rows))
    targets = targets_in(tmp_path, (6,))
    assert project({"all": source}, targets, progress=Silent()) == rows
    exact = source.features().astype(np.float64) @ targets[0].projection.matrix
    np.testing.assert_allclose(open_store(targets[0].root / "all").features(), exact, atol=1e-5)


@pytest.mark.usefixtures("small_chunks")
def test_each_chunk_is_read_once_for_all_targets(
    tmp_path: Path, chunk_reads: Counter[tuple[str, int]]
) -> None:
    project(sources_in(tmp_path), targets_in(tmp_path), progress=Silent())
    chunks = {("train", i) for i in range(14)} | {("validation", 0), ("validation", 1)}
    assert chunk_reads == dict.fromkeys(chunks | {("test", 0)}, 1)


def test_what_is_finished_is_neither_read_nor_written(
    tmp_path: Path, chunk_reads: Counter[tuple[str, int]]
) -> None:
    sources, targets = sources_in(tmp_path), targets_in(tmp_path)
    project(sources, targets, progress=Silent())
    before = bytes_in(tmp_path)
    chunk_reads.clear()
    assert project(sources, targets, progress=Silent()) == 0
    assert not chunk_reads
    assert bytes_in(tmp_path) == before


def test_the_store_says_what_made_it(tmp_path: Path) -> None:
    sources, (target, *_) = sources_in(tmp_path), targets_in(tmp_path)
    project(sources, [target], progress=Silent())
    spec = open_store(target.root / "train").spec
    assert spec.made_by == {
        "teacher": "t",
        "projection": target.projection.describe(),
        "source": sources["train"].digest,
    }
    assert (spec.dim, spec.dtype, spec.logits) == (12, "float32", 0)
    assert spec.classes == ("a", "b", "c")


def test_another_source_or_map_is_not_mixed_in(tmp_path: Path) -> None:
    sources, (target, *_) = sources_in(tmp_path), targets_in(tmp_path)
    project(sources, [target], progress=Silent())
    other = filled(tmp_path / "other.zarr" / "train", drawn(137, seed=99))
    with pytest.raises(StoreMismatchError, match="source"):
        project({"train": other}, [target], progress=Silent())
    reseeded = make_projection("gaussian", dim_in=DIM, dim_out=12, seed=1)
    with pytest.raises(StoreMismatchError, match=r"projection\.seed is 0 there and 1 here"):
        project(sources, [replace(target, projection=reseeded)], progress=Silent())


def test_a_store_being_written_by_another_is_refused(tmp_path: Path) -> None:
    sources, (target, *_) = sources_in(tmp_path), targets_in(tmp_path)
    spec = stage._spec(sources["test"], target)
    with create_store(target.root / "test", spec), pytest.raises(StoreLockedError):
        project(sources, [target], progress=Silent())


def test_a_damaged_chunk_of_the_source_is_named(tmp_path: Path) -> None:
    sources, targets = sources_in(tmp_path), targets_in(tmp_path)
    row = sources["train"].features(33, 34).tobytes()
    files = [file for file in sources["train"].path.rglob("*") if file.is_file()]
    file = next(file for file in files if row in file.read_bytes())
    data = bytearray(file.read_bytes())
    data[data.index(row)] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreDamagedError, match="chunk 3, rows 30 to 39"):
        project(sources, targets, progress=Silent())


def test_views_half_precision_and_missing_labels_are_carried(tmp_path: Path) -> None:
    half = (drawn(30) * 100).astype(np.float16)
    source = filled(tmp_path / "f.zarr" / "all", half, views=2, labelled=False, classes=())
    (target, *_) = targets_in(tmp_path)
    project({"all": source}, [target], progress=Silent())
    made = open_store(target.root / "all")
    assert (made.spec.views, made.spec.labelled, made.spec.classes) == (2, False, ())
    expected = half.astype(np.float64) @ target.projection.matrix
    np.testing.assert_allclose(made.features(), expected, rtol=1e-4, atol=1e-3)


def test_a_float16_target_holds_the_products_rounded_once(tmp_path: Path) -> None:
    sources, (target, *_) = sources_in(tmp_path), targets_in(tmp_path)
    narrow = replace(target, root=tmp_path / "narrow.zarr", dtype="float16")
    project(sources, [target, narrow], progress=Silent())
    wide, made = open_splits(target.root), open_splits(narrow.root)
    for split in sources:
        assert made[split].features().dtype == np.float16
        rounded = wide[split].features().astype(np.float16)
        np.testing.assert_array_equal(made[split].features(), rounded)
    with pytest.raises(StoreMismatchError, match="dtype"):
        project(sources, [replace(target, dtype="float16")], progress=Silent())


def test_what_float16_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    features = drawn(25)
    features[17] = 3e5
    source = filled(tmp_path / "f.zarr" / "all", features)
    target = replace(targets_in(tmp_path)[0], dtype="float16")
    with pytest.raises(InvalidRowsError, match="1051"):  # 1000 + 3 * 17
        project({"all": source}, [target], progress=Silent())


def test_what_overflows_is_refused_by_name(tmp_path: Path) -> None:
    features = drawn(25)
    features[17] = 3e38
    source = filled(tmp_path / "f.zarr" / "all", features)
    with pytest.raises(InvalidRowsError, match="1051"):  # 1000 + 3 * 17
        project({"all": source}, targets_in(tmp_path), progress=Silent())


def test_a_map_for_other_widths_is_refused(tmp_path: Path) -> None:
    projection = make_projection("gaussian", dim_in=25, dim_out=5, seed=0)
    target = Target("k5", 5, projection, tmp_path / "k5.zarr")
    with pytest.raises(StageError, match=r"k5 maps rows of 25, .* train .* 24 dim"):
        project(sources_in(tmp_path), [target], progress=Silent())
    assert not target.root.exists()


def test_two_targets_in_one_place_are_refused(tmp_path: Path) -> None:
    (target, *_) = targets_in(tmp_path)
    with pytest.raises(StageError, match=r"two targets would be written to .*k12\.zarr"):
        project(sources_in(tmp_path), [target, target], progress=Silent())


@pytest.mark.usefixtures("small_chunks")
def test_progress_counts_the_rows_of_each_split(tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {}

    class Counting(Silent):
        @contextmanager
        def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
            assert unit == "rows"
            seen[label] = [total, 0]

            def advance(rows: int) -> None:
                seen[label][1] += rows

            yield advance

    project(sources_in(tmp_path), targets_in(tmp_path), progress=Counting())
    assert seen == {f"project {split}": [rows, rows] for split, rows in ROWS.items()}


def test_chunks_of_a_target_are_whole_numbers_of_source_chunks(tmp_path: Path) -> None:
    features = np.zeros((3000, 64), dtype=np.float32)
    source = filled(tmp_path / "f.zarr" / "all", features, chunk_rows=700)
    projection = make_projection("orthogonal", dim_in=64, dim_out=32, seed=0)
    target = Target("k32", 2, projection, tmp_path / "k32.zarr")
    with pytest.MonkeyPatch.context() as patch:
        for most, expected in [(1 << 16, 2800), (1400, 1400), (1399, 700), (1, 700)]:
            patch.setattr(stage, "MOST_CHUNK_ROWS", most)
            assert stage._spec(source, target).chunk_rows == expected


def test_ten_times_the_rows_need_no_more_memory(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        folder = tmp_path / str(rows)
        features = np.zeros((rows, DIM), dtype=np.float32)
        source = filled(folder / "f.zarr" / "all", features, chunk_rows=500)
        targets = targets_in(folder)
        tracemalloc.start()
        project({"all": source}, targets, progress=Silent())
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "MOST_CHUNK_ROWS", 1000)
        few, many = peak(3000), peak(30_000)
    # ids and labels (16 bytes a row) and the names and digests of files are all that grows;
    # holding the features would take another 96 bytes a row, holding the results 80
    assert many - few < 27_000 * 32


@pytest.mark.parametrize(
    ("dim", "factor", "k"),
    [
        (2048, 16, 128),
        (2048, 1, 2048),
        (64, 3, 21),
        (10, 4, 2),
        (6, 4, 2),
        (768, 1.5, 512),
        (3, 6, 0),
    ],
)
def test_dimensions_for_a_factor(dim: int, factor: float, k: int) -> None:
    if k:
        assert dim_for_factor(dim, factor) == k
    else:
        with pytest.raises(StageError, match="factor 6 leaves nothing of 3 dimensions"):
            dim_for_factor(dim, factor)


@pytest.mark.parametrize("factor", [0.5, 0.0, -2.0, float("nan"), float("inf")])
def test_a_factor_below_one_is_refused(factor: float) -> None:
    with pytest.raises(StageError, match=f"factor must be at least 1, got {factor:g}"):
        dim_for_factor(64, factor)
