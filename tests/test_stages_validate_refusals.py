"""What validation refuses, in one line that says where and what to do."""

import re
from pathlib import Path

import numpy as np
import pytest

from distill.config import ValidateConfig
from distill.errors import StageError
from distill.progress import SILENT
from distill.stages.validate import validate
from stores import FeatureStore
from tests.store_builder import make_store


def random_rows(rows: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 6)).astype(np.float32)


def refused(reference: FeatureStore, candidate: FeatureStore) -> str:
    with pytest.raises(StageError) as caught:
        validate(
            reference,
            candidate,
            settings=ValidateConfig(),
            split="train",
            progress=SILENT,
        )
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_examples_are_refused(tmp_path: Path) -> None:
    rows = random_rows(20)
    ids = np.arange(20)
    store = make_store(tmp_path / "a" / "train", rows, ids=ids)
    shorter = make_store(tmp_path / "b" / "train", rows[:19], ids=ids[:19])
    turned = make_store(tmp_path / "c" / "train", rows, ids=ids[::-1])
    moved = make_store(tmp_path / "d" / "train", rows, ids=ids + 1)
    say = "compare stores that were made from the same split of the same data"
    assert refused(store, shorter) == (
        f"a/train and b/train hold different examples: 20 rows and 19; {say}"
    )
    assert refused(store, turned) == (
        "a/train and c/train hold the same examples in another order: row 0 is example 0 in one "
        f"and 19 in the other; {say}"
    )
    namesake = make_store(tmp_path / "other" / "a" / "train", rows, ids=ids + 1)
    whole = f"{store.path} and {namesake.path} hold different examples"
    assert refused(store, namesake).startswith(whole)
    assert refused(store, moved).startswith("a/train and d/train hold different examples: row 0 is")


def test_other_labels_are_refused(tmp_path: Path) -> None:
    rows = random_rows(20)
    first = make_store(tmp_path / "a" / "train", rows, np.zeros(20, np.int64))
    second = make_store(tmp_path / "b" / "train", rows, np.ones(20, np.int64))
    assert "hold other labels for the same ids" in refused(first, second)


def test_rows_without_distances_are_refused(tmp_path: Path) -> None:
    equal = make_store(tmp_path / "a" / "train", np.ones((20, 3), np.float32))
    assert refused(equal, equal) == (
        "a/train: all 20000 sampled pairs are of rows that are equal, or nearer than float32 "
        "tells; there are no distances to compare"
    )
    far = make_store(tmp_path / "f" / "train", np.float32(1e25) * random_rows(20))
    assert refused(far, far) == (
        "f/train: rows lie so far apart that their squared distances are no float32; divide the "
        "features by a number before they are stored"
    )
    single = make_store(tmp_path / "b" / "train", random_rows(1))
    assert "holds one example only" in refused(single, single)


def test_nan_is_refused_with_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make_store(tmp_path / "r" / "train", random_rows(20))
    candidate = make_store(tmp_path / "c" / "train", random_rows(20))
    features = FeatureStore.features

    def spoiled(self: FeatureStore, start: int = 0, stop: int | None = None) -> np.ndarray:
        rows = features(self, start, stop)
        if self.path == candidate.path:
            rows[5, 2] = np.nan
        return rows

    monkeypatch.setattr(FeatureStore, "features", spoiled)
    assert re.fullmatch(
        r"c/train: row 5 \(id 53\) holds NaN or infinite features; make the store again",
        refused(reference, candidate),
    )
