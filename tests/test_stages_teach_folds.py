"""Teachers of folds, and features of training rows that nobody learned."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.config import ExtractConfig
from distill.datasets import Dataset
from distill.errors import StageError
from distill.findings import FoldsTaught
from distill.held_out import Folds, HeldOut, folder_of
from distill.progress import Silent
from distill.stages.extract import extract
from distill.stages.teach_folds import Course, teach_folds
from distill.stages.train_teacher import train_teacher
from distill.views import Views
from stores import open_splits
from teachers import Teacher
from tests.cli_examples import Command, refused
from tests.lessons_examples import CLASSES, dataset, image_teacher
from tests.test_stages_train_teacher import settings, teach


def loaded(folder: Path) -> Teacher:
    return image_teacher(weights=str(folder), classes=CLASSES)


def course(folder: Path, **changes: Any) -> Course:
    return Course(
        folder=folder,
        settings=settings(**({"epochs": 2, "folds": 2} | changes)),
        workers=0,
        batch_size=8,
        teach=train_teacher,
        fresh=image_teacher,
        load=loaded,
    )


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FoldsTaught]:
    """A taught teacher, and those of two folds."""
    folder = tmp_path_factory.mktemp("folded")
    teach(folder, epochs=2)
    return folder, teach_folds(dataset(), course(folder), progress=Silent())


def held_out(folder: Path) -> HeldOut:
    return HeldOut(Folds.load(folder), (loaded(folder_of(folder, 0)), loaded(folder_of(folder, 1))))


def test_every_example_is_in_one_fold_and_each_class_in_all(
    folded: tuple[Path, FoldsTaught],
) -> None:
    folder, found = folded
    folds, train = Folds.load(folder), dataset().splits["train"]
    np.testing.assert_array_equal(folds.ids, np.sort(train.ids))
    assert [one.rows for one in found.folds] == [int((folds.fold == n).sum()) for n in (0, 1)]
    assert train.labels is not None
    labels = train.labels[np.argsort(train.ids)]
    for label in range(3):
        counts = np.bincount(folds.fold[labels == label], minlength=2)
        assert abs(int(counts[0]) - int(counts[1])) <= 1
    assert found.fingerprint == "abc"
    assert all(one.explained <= 1 for one in found.folds)


def test_a_folds_teacher_learned_the_others_and_nothing_else(
    folded: tuple[Path, FoldsTaught], tmp_path: Path
) -> None:
    """It is the teacher that is taught when the fold is simply not there."""
    folder, _ = folded
    folds, data = Folds.load(folder), dataset()
    train = data.splits["train"]
    assert train.labels is not None
    kept = np.flatnonzero(~np.isin(train.ids, folds.ids[folds.fold == 1]))
    inputs = type(train.inputs)(train.inputs.reader, train.inputs.rows[kept])
    part = replace(train, ids=train.ids[kept], labels=train.labels[kept], inputs=inputs)
    teach(tmp_path, replace(data, splits={**data.splits, "train": part}), epochs=2)
    assert loaded(tmp_path).card.weights == loaded(folder_of(folder, 1)).card.weights
    assert loaded(folder).card.weights != loaded(folder_of(folder, 1)).card.weights


def test_training_rows_and_their_views_are_seen_by_who_never_learned_them(
    folded: tuple[Path, FoldsTaught], tmp_path: Path
) -> None:
    folder, _ = folded
    data, whole, held = dataset(), loaded(folder), held_out(folder)
    views = Views(count=2, augment="crop-flip")
    take = partial(
        extract,
        settings=ExtractConfig(batch_size=8),
        made_by={},
        workers=0,
        progress=Silent(),
        views=views,
    )
    take(data, whole, tmp_path / "own.zarr")
    take(data, whole, tmp_path / "held.zarr", held_out=held)
    own, stored = open_splits(tmp_path / "own.zarr"), open_splits(tmp_path / "held.zarr")
    for name in ("validation", "test"):
        np.testing.assert_array_equal(own[name].features(), stored[name].features())
        assert "held_out" not in stored[name].spec.made_by
    folds, train = held.folds, data.splits["train"]
    fold = dict(zip(folds.ids.tolist(), folds.fold.tolist(), strict=True))
    for name in ("train", "views"):
        assert stored[name].spec.made_by["held_out"] == held.describe()
        np.testing.assert_array_equal(stored[name].ids(), own[name].ids())
    assert np.abs(stored["views"].features() - own["views"].features()).max() > 1e-3
    for row, (example, features, logits) in enumerate(
        zip(train.ids, stored["train"].features(), stored["train"].logits(), strict=True)
    ):
        number = fold[int(example)]
        teacher, alignment = held.teachers[number], folds.alignments[number]
        seen = teacher.embed(teacher.prepare([train.inputs[row]]))
        expected = seen.features[0] @ alignment.matrix + alignment.shift
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
        assert seen.logits is not None
        np.testing.assert_allclose(logits, seen.logits[0], rtol=1e-4, atol=1e-4)


def test_an_example_in_no_fold_is_refused(folded: tuple[Path, FoldsTaught]) -> None:
    held = held_out(folded[0])
    prepared = held.teachers[0].prepare([dataset().splits["train"].inputs[0]])
    for strange in (-1, 5, 10**9):
        with pytest.raises(StageError, match=f"training example {strange} is in no fold"):
            held.embed(np.array([strange]), prepared)


def test_views_that_mix_two_examples_are_refused(
    folded: tuple[Path, FoldsTaught], tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="mixes two examples is held out of no fold"):
        extract(
            dataset(), loaded(folded[0]), tmp_path / "f.zarr", settings=ExtractConfig(),
            made_by={}, workers=0, progress=Silent(), held_out=held_out(folded[0]),
            views=Views(count=1, augment="crop-flip", mix="mixup"),
        )  # fmt: skip
    assert not (tmp_path / "f.zarr").exists()


def test_a_class_of_one_example_cannot_be_held_out(tmp_path: Path) -> None:
    data: Dataset = dataset()
    train = data.splits["train"]
    assert train.labels is not None
    labels = np.where(train.labels == 2, 1, train.labels)
    labels[7] = 2
    data = replace(data, splits={**data.splits, "train": replace(train, labels=labels)})
    with pytest.raises(StageError, match="class 'blue' has its only training examples in fold"):
        teach_folds(data, course(tmp_path), progress=Silent())


def test_interrupted_it_goes_on_and_ends_with_the_same_teachers(
    folded: tuple[Path, FoldsTaught], tmp_path: Path
) -> None:
    class Stopping(Silent):
        def say(self, text: str) -> None:
            if text.startswith("fold 1 of 2"):
                raise KeyboardInterrupt

    teach(tmp_path, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        teach_folds(dataset(), course(tmp_path), progress=Stopping())
    assert not (tmp_path / "folds.safetensors").exists()
    teach_folds(dataset(), course(tmp_path), progress=Silent())
    for fold in (0, 1):
        ended, expected = (loaded(folder_of(one, fold)) for one in (tmp_path, folded[0]))
        assert ended.card.weights == expected.card.weights


def test_a_damaged_file_of_folds_is_told(folded: tuple[Path, FoldsTaught], tmp_path: Path) -> None:
    data = (folded[0] / "folds.safetensors").read_bytes()
    (tmp_path / "folds.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(StageError, match="missing or damaged; run train-teacher --folds again"):
        Folds.load(tmp_path)


def test_from_the_command_line(tmp_path: Path, call: Command) -> None:
    run = tmp_path / "run"
    small = (
        "--run", run, "--teacher", "timm/resnet10t", "--random-init", "--image-size", "32",
        "--limit", "60",
    )  # fmt: skip
    refused(call("train-teacher", *small, "--folds", "1"), "teach.folds: must be 0, or at least 2")
    code, _, err = call("train-teacher", *small, "--epochs", "1")
    assert code == 0, err
    refused(call("extract", "--run", run, "--held-out"), "run `distill train-teacher --folds 5")
    code, out, _ = call("train-teacher", "--run", run, "--folds", "2", "--dry-run")
    assert "and 2 more without a fold each" in out
    assert "done" not in out
    code, _, err = call("train-teacher", "--run", run, "--folds", "2")
    assert code == 0, err
    assert "is taught already" in err
    assert "fold 2 of 2: " in err
    code, out, err = call("extract", "--run", run, "--held-out", "--verbose")
    assert code == 0, err
    assert "training rows are seen by 2 teachers" in out + err
    assert "done" in call("train-teacher", "--run", run, "--folds", "2", "--dry-run")[1]
    again = call("train-teacher", "--run", run, "--folds", "2")
    assert "the teachers of 2 folds are taught already" in again[2]
    code, _, err = call("train-teacher", "--run", run, "--folds", "3")
    assert code == 2
    assert "holds teachers of other folds; name another folder with --run" in err
    refused(call("extract", "--run", run, "--limit", "40"), "were taught on other data than digits")
    before = sorted(path.name for path in (run / "features.zarr").iterdir())
    words = ("--views", "2", "--mix", "mixup", "--overwrite")
    refused(call("extract", "--run", run, *words), "a view that mixes two examples")
    assert sorted(path.name for path in (run / "features.zarr").iterdir()) == before  # all there
    layer = ("--layer", "layer1", "--overwrite")
    refused(call("extract", "--run", run, *layer), "see as its layer '' did, not 'layer1'")
    # other weights of the whole teacher: the folds are aligned with those of before
    record = run / "teacher" / "folds.json"
    kept = record.read_text()
    anew = ("--folds", "0", "--epochs", "2", "--overwrite")
    assert call("train-teacher", "--run", run, *anew)[0] == 0
    assert not record.is_file()
    record.write_text(kept)
    refused(call("extract", "--run", run, "--overwrite"), "see as its weights 'sha256:")
