"""The sweep on small stores: against a plain reference, what it reads, what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from distill.errors import StageError
from distill.findings import Sweep
from distill.sweeping.cells import Cell
from distill.sweeping.folds import partition
from projections import UnknownKindError, make_projection
from stores import FeatureStore, StoreError
from tests.progress_recorder import Told
from tests.store_builder import make_store
from tests.sweep_examples import (
    CLASSES,
    DIM,
    NAMES,
    SIZES,
    Stores,
    cells_of,
    data,
    stores_of,
    swept,
    timeless,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Stores, Sweep]:
    """One finished sweep, to be looked at and not changed."""
    folder = tmp_path_factory.mktemp("sweep")
    stores = stores_of(folder, data())
    return folder, stores, swept(stores, folder, factors=(1, 2, 6), seeds=5)


def cell(folder: Path, name: str) -> Cell:
    (path,) = folder.glob(f"sweep/*/cells/{name}.json")
    return Cell.load(path)


def logistic(rows: np.ndarray, labels: np.ndarray, l2: float) -> LogisticRegression:
    """Scikit-learn's head of the same objective; rows are already scaled."""
    return LogisticRegression(C=1 / (len(rows) * l2), tol=1e-6, max_iter=2000).fit(rows, labels)


def scaled_by(rows: np.ndarray) -> float:
    return float(np.sqrt(np.mean((rows - rows.mean(axis=0)) ** 2)))


@pytest.mark.parametrize("kind", ["full", "gaussian", "pca"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_cell_is_what_scikit_learn_makes_of_the_same_rows(
    finished: tuple[Path, Stores, Sweep], kind: str, seed: int
) -> None:
    folder, _, _ = finished
    rows = data()
    features, labels = (
        np.concatenate([rows["train"][at], rows["validation"][at]]) for at in (0, 1)
    )
    split = partition(labels, 0).split(seed)
    k = DIM if kind == "full" else 4
    if kind == "gaussian":
        features = features @ make_projection(kind, dim_in=DIM, dim_out=k, seed=seed).matrix
    if kind == "pca":
        features = PCA(k).fit(features[split.fit].astype(np.float64)).transform(features)
    found = cell(folder, f"{kind}-k{k}-s{seed}")
    assert found.held_rows == len(split.held)
    for score in found.scores:
        by = scaled_by(features[split.fit])
        head = logistic(features[split.fit] / by, labels[split.fit], score.l2)
        expected = np.mean(head.predict(features[split.held] / by) == labels[split.held])
        # heads of equal objectives may differ on a row or two at the border
        assert score.accuracy == pytest.approx(expected, abs=2.1 / len(split.held))


def test_what_is_found_says_where_it_stands(finished: tuple[Path, Stores, Sweep]) -> None:
    _, stores, found = finished
    assert (found.dim, found.classes, found.seeds, found.folds) == (DIM, CLASSES, 5, 5)
    assert found.rows == SIZES
    assert found.stores == {split: store.digest for split, store in stores.items()}
    assert found.cells == 5 * (1 + 2 * 2)
    assert [(one.kind, one.dim_out) for one in found.maps] == [
        ("gaussian", 12), ("gaussian", 4), ("pca", 12), ("pca", 4),
    ]  # fmt: skip
    assert [one.seeded for one in found.maps] == [True, True, False, False]
    assert found.full.accuracy.mean > 0.9
    by_name = {(one.kind, one.dim_out): one for one in found.maps}
    assert by_name["pca", 4].accuracy.mean > by_name["gaussian", 4].accuracy.mean + 0.05
    assert by_name["gaussian", 4].loss.mean > 0.1
    assert found.break_even == pytest.approx(DIM * CLASSES / (DIM + CLASSES))
    for one in (found.full, *found.maps):
        assert one.tested is not None
        assert abs(one.tested.accuracy.mean - one.accuracy.mean) < 0.1
        assert one.temperature > 0
        assert one.calibration_error.mean < 0.25
    gaussian = by_name["gaussian", 12]
    assert gaussian.distortion is not None
    assert gaussian.distortion.mean == pytest.approx(1, abs=0.3)
    assert found.diagnostics is not None
    assert found.diagnostics.rows == SIZES["validation"]
    assert all(value is not None for value in found.diagnostics.figures.values())
    assert found.sentence


def test_losses_are_paired_with_the_full_head_of_the_same_fold(
    finished: tuple[Path, Stores, Sweep],
) -> None:
    folder, _, found = finished
    one = found.maps[1]
    losses = []
    for seed in range(5):
        ours, full = cell(folder, f"gaussian-k4-s{seed}"), cell(folder, f"full-k24-s{seed}")
        accuracy = {score.l2: score.accuracy for score in ours.scores}[one.l2]
        losses.append({s.l2: s.accuracy for s in full.scores}[found.full.l2] - accuracy)
    assert one.loss.mean == pytest.approx(np.mean(losses))


def test_it_goes_to_json_and_back(finished: tuple[Path, Stores, Sweep], tmp_path: Path) -> None:
    _, _, found = finished
    found.save(tmp_path / "sweep.json")
    assert Sweep.load(tmp_path / "sweep.json") == found


class Reads:
    """Counts chunks as they are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chunks: list[tuple[str, int]] = []
        read_into = FeatureStore.read_into

        def counted(store: FeatureStore, column: Any, index: int, into: np.ndarray) -> None:
            if column.name == "features":
                self.chunks.append((store.path.name, index))
            read_into(store, column, index, into)

        monkeypatch.setattr(FeatureStore, "read_into", counted)

    def times(self, split: str) -> set[int]:
        indices = [index for name, index in self.chunks if name == split]
        return {indices.count(index) for index in indices} or {0}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def test_in_memory_every_chunk_is_read_once_whatever_the_maps(tmp_path: Path, reads: Reads) -> None:
    stores = stores_of(tmp_path, data())
    kinds = ("pca", "discriminant", "head-svd")
    first = swept(stores, tmp_path, kinds=kinds, factors=(2, 6), seeds=1)
    assert [reads.times(split) for split in SIZES] == [{1}, {1}, {1}]
    reads.chunks.clear()
    again = swept(stores, tmp_path, kinds=kinds, factors=(2, 6), seeds=1)
    assert reads.chunks == []
    assert timeless(again) == timeless(first)


def test_the_test_rows_are_read_when_every_choice_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = stores_of(tmp_path, data())
    read_into, seen = FeatureStore.read_into, []

    def watched(store: FeatureStore, column: Any, index: int, into: np.ndarray) -> None:
        if store.path.name == "test" and column.name == "features":
            (choices,) = tmp_path.glob("sweep/*/choices.json")
            seen.append(choices.read_text())
            assert len(cells_of(tmp_path)) == 2 * 4  # a cell each, and what the full heads leave
        read_into(store, column, index, into)

    monkeypatch.setattr(FeatureStore, "read_into", watched)
    swept(stores, tmp_path)
    (choices,) = tmp_path.glob("sweep/*/choices.json")
    assert set(seen) == {choices.read_text()}


def test_another_tolerance_or_kind_makes_only_what_is_new(tmp_path: Path, reads: Reads) -> None:
    stores = stores_of(tmp_path, data())
    swept(stores, tmp_path, kinds=("gaussian",), seeds=1)
    before = cells_of(tmp_path)
    reads.chunks.clear()
    looser = swept(stores, tmp_path, kinds=("gaussian",), seeds=1, tolerance=0.9)
    assert reads.chunks == []
    assert cells_of(tmp_path) == before
    assert (looser.best.kind, looser.best.dim_out) == ("gaussian", 4)
    swept(stores, tmp_path, kinds=("gaussian", "pca"), seeds=2)
    after = cells_of(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * 4


def test_rows_that_do_not_fit_give_the_same_answer_from_chunks(
    tmp_path: Path, reads: Reads
) -> None:
    rows = data()
    here, there = (stores_of(tmp_path / name, rows) for name in ("here", "there"))
    held = swept(here, tmp_path / "here", kinds=("pca", "learned"), seeds=1)
    reads.chunks.clear()
    told = Told()
    streamed = swept(
        there, tmp_path / "there",
        kinds=("pca", "learned"), seeds=1, memory_limit=30_000, progress=told,
    )  # fmt: skip
    assert max(reads.times("train")) > 2
    assert any("learned maps are trained on all features at once" in line for line in told.said)
    names = {(one.kind, one.dim_out) for one in streamed.maps}
    assert names == {(one.kind, one.dim_out) for one in held.maps if one.kind != "learned"}
    pairs = [(held.full, streamed.full)]
    pairs += [
        (one, other)
        for one in held.maps
        for other in streamed.maps
        if (one.kind, one.dim_out) == (other.kind, other.dim_out)
    ]
    for one, other in pairs:
        assert other.accuracy.mean == pytest.approx(one.accuracy.mean, abs=0.015)
        assert one.tested is not None
        assert other.tested is not None
        assert other.tested.accuracy.mean == pytest.approx(one.tested.accuracy.mean, abs=0.015)


def test_factors_and_widths_that_are_left_out_are_said(tmp_path: Path) -> None:
    told = Told()
    found = swept(
        stores_of(tmp_path, data()), tmp_path, progress=told,
        kinds=("gaussian", "discriminant"), factors=(1, 2, 2.04, 6, 60), seeds=1,
    )  # fmt: skip
    assert list(found.notes) == told.said
    assert "factors 2 and 2.04 both give k = 12, which is made once" in told.said
    assert "factor 60 leaves nothing of 24 dimensions and is left out" in told.said
    assert any(
        "discriminant maps have C - 1 = 5 dimensions of their own" in line for line in told.said
    )
    assert {one.dim_out for one in found.maps} == {12, 4}


def test_fewer_rows_than_dimensions(tmp_path: Path) -> None:
    told = Told()
    stores = stores_of(tmp_path, data(train=12, validation=12, test=20))
    found = swept(stores, tmp_path, progress=told, factors=(1.5, 6), seeds=1)
    said = "pca maps are fitted on as few as 12 rows: k = 16 is beyond them and left out"
    assert said in told.said
    assert {(one.kind, one.dim_out) for one in found.maps} == {
        ("gaussian", 16), ("gaussian", 4), ("pca", 4),
    }  # fmt: skip


def test_a_class_of_one_row_and_features_that_do_not_vary(tmp_path: Path) -> None:
    rows = data(train=120, validation=60, test=60)
    for split, (features, labels) in rows.items():
        features[:, 3] = 7.0  # constant
        features[:, 5] = 2 * features[:, 4]  # collinear
        labels[labels == 5] = 4
        if split == "train":
            labels[0] = 5
    found = swept(
        stores_of(tmp_path, rows), tmp_path,
        kinds=("gaussian", "pca", "discriminant", "head-svd", "learned"), factors=(6,), seeds=2,
    )  # fmt: skip
    text = json.dumps(found.to_json(), allow_nan=False)  # every number is finite
    assert "NaN" not in text
    assert found.full.accuracy.mean > 0.8


def test_features_that_are_all_equal_are_at_chance_and_said_so(tmp_path: Path) -> None:
    rows = data(train=60, validation=30, test=30)
    for features, _ in rows.values():
        features[:] = 1.0
    found = swept(stores_of(tmp_path, rows), tmp_path, factors=(2,), seeds=1)
    assert found.full.accuracy.mean < 0.4
    assert found.maps[0].distortion is None
    assert any("do not tell the classes apart" in note for note in found.notes)
    assert "effective rank" not in found.sentence  # which equal rows do not have
    json.dumps(found.to_json(), allow_nan=False)


def test_features_that_tell_the_classes_apart_are_not_warned_of(
    finished: tuple[Path, Stores, Sweep],
) -> None:
    assert not any("apart" in note for note in finished[2].notes)


def test_damaged_diagnostics_are_measured_again(tmp_path: Path) -> None:
    stores = stores_of(tmp_path, data(train=60, validation=30, test=30))
    first = swept(stores, tmp_path, factors=(2,), seeds=1)
    (path,) = tmp_path.rglob("diagnostics-1.json")
    path.write_bytes(path.read_bytes()[:40])
    assert timeless(swept(stores, tmp_path, factors=(2,), seeds=1)) == timeless(first)


def without(stores: Stores, split: str) -> Stores:
    return {name: store for name, store in stores.items() if name != split}


def test_refusals_are_one_line(tmp_path: Path) -> None:
    rows = data(train=40, validation=20, test=20)
    stores = stores_of(tmp_path, rows)
    bare = make_store(tmp_path / "bare" / "test", rows["test"][0])
    one = make_store(
        tmp_path / "one" / "train", rows["train"][0], np.zeros(40, np.int64), classes=NAMES
    )
    other = make_store(tmp_path / "other" / "test", *rows["test"], classes=NAMES[::-1])
    few = {
        split: make_store(tmp_path / "few" / split, *(part[:4] for part in rows[split]),
                          classes=NAMES)
        for split in SIZES
    }  # fmt: skip
    for wrong, words in (
        (without(stores, "validation"), "there is no validation split"),
        (stores | {"test": bare}, "has no labels, which classifiers need"),
        (stores | {"train": one}, "all 40 training rows are of class"),
        (stores | {"test": other}, "do not name the same classes"),
        (few, "train and validation have 8 rows together"),
    ):
        with pytest.raises(StageError, match=words) as caught:
            swept(wrong, tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(StageError, match="leave no width below the 24 dimensions"):
        swept(stores, tmp_path, factors=(1,))
    with pytest.raises(UnknownKindError, match="did you mean 'gaussian'"):
        swept(stores, tmp_path, kinds=("gausian",))
    assert cells_of(tmp_path) == {}


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    stores = stores_of(tmp_path, data())
    chunks = sorted((tmp_path / "features.zarr/train/features").rglob("c*"))
    largest = max((path for path in chunks if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-4] + b"abcd")
    with pytest.raises(StoreError, match="repair the store"):
        swept(stores, tmp_path)
