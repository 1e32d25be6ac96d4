"""Teaching the teacher: what is learned, chosen, saved, resumed and refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import distill.stages.train_teacher as stage
from distill.config import TeachConfig
from distill.datasets import Dataset, Split
from distill.errors import StageError
from distill.findings import Taught
from distill.progress import Silent
from distill.stages.train_teacher import train_teacher
from distill.views import Viewed, Views
from students import CheckpointError
from teachers import NetworkTeacher, Teacher
from tests.lessons_examples import CLASSES, SIZES, dataset, image_teacher, opened


class Listener(Silent):
    """Keeps what is told, and counts what is done."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def detail(self, text: str) -> None:
        self.said.append(text)


def settings(**changes: Any) -> TeachConfig:
    values: dict[str, Any] = {"epochs": 6, "batch_size": 8, "learning_rate": 0.02}
    return TeachConfig(**(values | changes))


def teach(folder: Path, data: Dataset | None = None, **changes: Any) -> tuple[Taught, Teacher]:
    teacher = changes.pop("teacher", None) or image_teacher()
    found = train_teacher(
        data or dataset(),
        teacher,
        folder=folder,
        settings=settings(**changes),
        workers=0,
        progress=Silent(),
    )
    return found, teacher


def test_a_taught_teacher_knows_the_task_and_comes_back_from_its_folder(tmp_path: Path) -> None:
    found, teacher = teach(tmp_path)
    assert found.test.rows == SIZES["test"]
    assert found.test.accuracy > 0.8
    assert (found.classes, found.dim) == (3, 8)
    assert 1 <= found.best_epoch <= found.epochs == 6
    again = image_teacher(weights=str(tmp_path), classes=CLASSES)
    assert again.card.classes == CLASSES
    data = dataset()
    prepared = again.prepare(list(data.splits["test"].inputs))
    outputs = again.embed(prepared)
    assert outputs.logits is not None
    labels = data.splits["test"].labels
    assert float((outputs.logits.argmax(axis=1) == labels).mean()) == found.test.accuracy
    np.testing.assert_allclose(outputs.features, teacher.embed(prepared).features, rtol=1e-5)


def test_the_parameters_are_those_of_backbone_and_head(tmp_path: Path) -> None:
    found, teacher = teach(tmp_path, epochs=1)
    assert found.parameters == teacher.card.parameters + 8 * 3 + 3


def test_every_part_of_the_backbone_is_taught_even_if_it_came_frozen(tmp_path: Path) -> None:
    teacher = image_teacher()
    teacher.module.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in teacher.module.named_parameters()}
    teach(tmp_path, teacher=teacher, epochs=1)
    same = [n for n, p in teacher.module.named_parameters() if torch.equal(p, before[n])]
    assert same == []


def test_interrupted_and_started_again_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    class Stopping(Silent):
        def detail(self, text: str) -> None:
            if text.startswith("epoch 3"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_teacher(
            dataset(),
            image_teacher(),
            folder=tmp_path / "cut",
            settings=settings(),
            workers=0,
            progress=Stopping(),
        )
    assert not (tmp_path / "cut" / "teacher.json").exists()
    listener = Listener()
    train_teacher(
        dataset(),
        image_teacher(),
        folder=tmp_path / "cut",
        settings=settings(),
        workers=0,
        progress=listener,
    )
    assert [line.partition(":")[0] for line in listener.said] == ["epoch 4", "epoch 5", "epoch 6"]
    teach(tmp_path / "whole")
    files = [tmp_path / part / "teacher.safetensors" for part in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_every_epoch_shows_a_view_of_every_example_that_no_other_epoch_shows(
    tmp_path: Path,
) -> None:
    data, teacher = dataset(), image_teacher()
    seen: list[bytes] = []

    def prepare(images: Any) -> Any:
        seen.extend(image.tobytes() for image in images)
        return teacher.prepare(images)

    assert isinstance(teacher, NetworkTeacher)
    spied = dataclasses.replace(teacher, prepare=prepare)
    found, _ = teach(tmp_path, data, teacher=spied, epochs=2, augment="crop")
    split, rows = data.splits["train"], SIZES["train"]
    views = Viewed(split.inputs, split.ids, Views(count=2, augment="crop", seed=0), "image")
    expected = [view.tobytes() for view in views]
    of_train = [pixels for pixels in seen if pixels in expected]
    first, second = of_train[:rows], of_train[rows:]
    assert sorted(first) == sorted(expected[::2])
    assert sorted(second) == sorted(expected[1::2])
    assert first != expected[::2]  # shuffled
    assert found.notes[0] == "taught from a new view of every example each epoch: crop"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_computes_in_the_precision_and_weights_stay_float32(
    tmp_path: Path, precision: str
) -> None:
    teacher, seen = image_teacher(), set()

    def note(module: torch.nn.Module, _: Any, outputs: torch.Tensor) -> None:
        seen.add((module.training, str(outputs.dtype)))

    next(
        m for m in teacher.module.modules() if isinstance(m, torch.nn.Conv2d)
    ).register_forward_hook(note)
    teach(tmp_path, teacher=teacher, epochs=1, precision=precision)
    assert seen == {(True, f"torch.{precision}"), (False, "torch.float32")}
    assert {p.dtype for p in teacher.module.parameters()} == {torch.float32}


def test_a_view_comes_with_the_label_of_its_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong labels in most epochs would hardly show in the accuracy of so easy a task."""
    given: dict[str, Any] = {}

    class EnoughError(Exception):
        pass

    def spied(network: Any, **arguments: Any) -> None:
        given.update(arguments)
        raise EnoughError

    monkeypatch.setattr(stage, "fit", spied)
    with pytest.raises(EnoughError):
        teach(tmp_path, augment="crop", epochs=3)
    labels = dataset().splits["train"].labels
    assert labels is not None
    for epoch in (1, 2, 3):
        order = given["order"](epoch)
        for rows, batch in zip(order, given["feed"].batches(order), strict=True):
            assert (rows % 3 == epoch - 1).all()
            np.testing.assert_array_equal(batch.targets["labels"].numpy(), labels[rows // 3])


def test_what_is_taught_from_views_knows_the_task(tmp_path: Path) -> None:
    found, _ = teach(tmp_path, augment="crop-flip")
    assert found.test.accuracy > 0.8


def test_taught_from_views_and_interrupted_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    class Stopping(Silent):
        def detail(self, text: str) -> None:
            if text.startswith("epoch 1"):
                raise KeyboardInterrupt

    views: dict[str, Any] = {"epochs": 2, "augment": "crop"}
    with pytest.raises(KeyboardInterrupt):
        train_teacher(
            dataset(),
            image_teacher(),
            folder=tmp_path / "cut",
            settings=settings(**views),
            workers=0,
            progress=Stopping(),
        )
    with pytest.raises(CheckpointError, match='augment = "crop", now it is "crop-flip"'):
        teach(tmp_path / "cut", **{**views, "augment": "crop-flip"})
    teach(tmp_path / "cut", **views)
    teach(tmp_path / "whole", **views)
    files = [tmp_path / part / "teacher.safetensors" for part in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_views_of_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    teach(tmp_path, epochs=1)
    with pytest.raises(StageError, match="no augmentation named 'cropp'; did you mean 'crop'"):
        teach(tmp_path, epochs=1, augment="cropp")


def test_other_settings_or_data_are_refused(tmp_path: Path) -> None:
    teach(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match=r"weight_decay = 0\.01, now it is 0\.5"):
        teach(tmp_path, epochs=1, weight_decay=0.5)
    with pytest.raises(CheckpointError, match='dataset = "abc", now it is "other"'):
        teach(tmp_path, dataset(fingerprint="other"), epochs=1)


def changed(name: str, **changes: Any) -> Dataset:
    data = dataset()
    splits: dict[str, Split] = dict(data.splits)
    splits[name] = dataclasses.replace(splits[name], **changes)
    return dataclasses.replace(data, splits=splits)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dataclasses.replace(dataset(), classes=("one",)), "colours has 1 classes; teaching needs"),
        (changed("test", labels=None), "the test split of colours has no labels to learn from"),
        (
            changed(
                "validation",
                ids=np.zeros(0, np.int64),
                labels=np.zeros(0, np.int64),
                inputs=opened([]),
            ),
            "colours has no examples in its validation split",
        ),
        (
            changed("train", labels=np.ones(SIZES["train"], np.int64)),
            "every training example of colours is of one class",
        ),
    ],
    ids=["one class", "no labels", "empty split", "one class in train"],
)
def test_data_that_cannot_teach_are_refused(tmp_path: Path, data: Dataset, message: str) -> None:
    with pytest.raises(StageError, match=message):
        teach(tmp_path, data)
    assert not list(tmp_path.iterdir())
