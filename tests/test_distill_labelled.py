"""Which stores can teach classifiers, and the names of their classes."""

from pathlib import Path

import numpy as np
import pytest

from distill.errors import StageError
from distill.labelled import class_names
from stores import FeatureStore
from tests.store_builder import make_store

NAMES = ("ant", "bee", "cat")
LABELS = np.array([0, 1, 2, 1])


def store(
    path: Path, labels: np.ndarray | None = LABELS, classes: tuple[str, ...] = NAMES
) -> FeatureStore:
    return make_store(path, np.ones((4, 2), np.float32), labels, classes=classes)


def stores(folder: Path) -> dict[str, FeatureStore]:
    return {split: store(folder / "f" / split) for split in ("train", "validation", "test")}


def refused(splits: dict[str, FeatureStore], folder: Path) -> str:
    with pytest.raises(StageError) as caught:
        class_names(splits)
    return str(caught.value).replace(str(folder), "RUN")


def test_names_are_those_of_the_stores_or_numbers(tmp_path: Path) -> None:
    assert class_names(stores(tmp_path)) == NAMES
    bare = {s: store(tmp_path / "b" / s, classes=()) for s in ("train", "validation", "test")}
    assert class_names(bare) == ("0", "1", "2")


def test_a_missing_split_is_told_with_the_cure(tmp_path: Path) -> None:
    without = {name: one for name, one in stores(tmp_path).items() if name != "validation"}
    assert refused(without, tmp_path) == (
        "there is no validation split, which classifiers need; the store has train, test; "
        "extract or import data with all three, or one split to be carved into them"
    )


def test_every_split_must_be_labelled_with_the_same_classes(tmp_path: Path) -> None:
    whole = stores(tmp_path)
    bare = whole | {"test": store(tmp_path / "u" / "test", None)}
    say = "RUN/u/test has no labels, which classifiers need; name the label column with --label-"
    assert refused(bare, tmp_path).startswith(say)
    renamed = whole | {"test": store(tmp_path / "r" / "test", classes=NAMES[::-1])}
    assert refused(renamed, tmp_path) == "the splits of RUN/f do not name the same classes"


def test_a_single_class_is_named(tmp_path: Path) -> None:
    single = stores(tmp_path) | {"train": store(tmp_path / "s" / "train", np.full(4, 2))}
    assert refused(single, tmp_path) == (
        "RUN/s: all 4 training rows are of class 'cat'; a classifier needs at least two"
    )
