"""Teaching a student: by id, resumed, refused, beside its baselines, predicted with."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.datasets import Dataset
from distill.errors import StageError
from distill.findings import Student, Students
from distill.lessons import Lesson
from distill.matching import match
from distill.predictor import load_predictor
from distill.progress import Silent
from distill.runs import recall
from distill.stages.train_student import student_name, train_student
from distill.stored import StoreRows, logits_of, spread
from students import CheckpointError, load_student, read_card, read_tensors
from tests.lessons_examples import (
    SIZES,
    dataset,
    image_teacher,
    lesson,
    student_settings,
)
from tests.store_builder import make_store
from tests.training_examples import check_board, lines, vote_of_neighbours

DATA = dataset()


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    return lesson(tmp_path_factory.mktemp("lesson"), DATA, image_teacher())


class Listener(Silent):
    def __init__(self, stop_at: str = "never") -> None:
        self.said: list[str] = []
        self.told: list[str] = []
        self.stop_at = stop_at

    def say(self, text: str) -> None:
        self.said.append(text)

    def detail(self, text: str) -> None:
        self.told.append(text)
        if text.startswith(self.stop_at):
            raise KeyboardInterrupt


def losses_of(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder)]


def train(
    root: Path,
    taught: Lesson,
    *,
    progress: Silent | None = None,
    overwrite: bool = False,
    data: Dataset = DATA,
    **changes: Any,
) -> Students:
    return train_student(
        data,
        taught,
        settings=student_settings(**changes),
        root=root,
        workers=0,
        device="cpu",
        progress=progress or Silent(),
        overwrite=overwrite,
    )


def test_a_student_comes_nearer_to_its_targets_and_says_how_good_it_is(
    tmp_path: Path, taught: Lesson
) -> None:
    (found,) = train(tmp_path, taught, epochs=25).students
    folder = tmp_path / "resnet10t-gaussian-k5-s0"
    losses = losses_of(folder)
    # before learning, the mean of a target over its spread is the loss: at least 1
    assert losses[-1] < 0.5 < 1.0 < losses[0]
    assert found.name == folder.name
    assert (found.method, found.target, found.dim_out) == ("subspace", "gaussian-k5-s0", 5)
    assert found.test.rows == SIZES["test"]
    assert found.test.accuracy > 0.7
    assert found.agreement is not None
    assert found.difference is not None
    assert found.difference.against == "full"
    assert "clean inputs" in found.notes[0]
    assert recall(folder / "student.json", Student) == found
    check_board(folder)


def test_the_curve_of_neighbours_is_that_of_what_the_student_answers(
    tmp_path: Path, taught: Lesson
) -> None:
    """Of its k numbers on validation rows, in the epoch whose weights are kept."""
    (found,) = train(tmp_path, taught).students
    curve = [line["knn_accuracy"] for line in lines(tmp_path / found.name)]
    assert len(curve) == 3
    validation = DATA.splits["validation"]
    student = load_student(tmp_path / found.name / "student.safetensors")
    with torch.inference_mode():
        rows = student.network.eval().encoder(taught.prepare(list(validation.inputs)))
    assert validation.labels is not None
    expected = vote_of_neighbours(rows.numpy(), validation.labels, 10)
    assert 0 < expected < 1
    assert curve[found.best_epoch - 1] == pytest.approx(expected)


def test_the_saved_student_answers_as_the_record_says_without_the_teacher(
    tmp_path: Path, taught: Lesson
) -> None:
    (found,) = train(tmp_path, taught).students
    folder = tmp_path / found.name
    predictor = load_predictor(folder)
    labels, shares = predictor.predict(DATA.splits["test"].inputs, batch_size=4)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-9)
    truth = [DATA.classes[int(label)] for label in DATA.splits["test"].labels]  # type: ignore[union-attr]
    assert np.mean([a == b for a, b in zip(labels, truth, strict=True)]) == found.test.accuracy
    rows, state = read_tensors(folder / "predictions.safetensors")
    assert state == {"split": "test", "student": found.name}
    assert rows["ids"].tolist() == DATA.splits["test"].ids.tolist()
    assert [DATA.classes[int(index)] for index in rows["predicted"]] == list(labels)


def test_the_head_that_is_carried_over_is_the_one_trained_on_the_targets(
    tmp_path: Path, taught: Lesson
) -> None:
    (found,) = train(tmp_path, taught, epochs=1).students
    tensors, _ = read_tensors(tmp_path / found.name / "student.safetensors")
    np.testing.assert_array_equal(tensors["head.weight"].numpy(), taught.head.weight)
    np.testing.assert_array_equal(tensors["head.bias"].numpy(), taught.head.bias)
    assert float(tensors["encoder.scale"]) == 1.0  # folded into the neck
    assert found.parameters == sum(
        tensor.numel()
        for name, tensor in tensors.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked", "scale"))
    )


def test_rows_are_matched_by_id_and_not_by_position(tmp_path: Path, taught: Lesson) -> None:
    order = np.random.default_rng(1).permutation(SIZES["train"])
    shuffled = lesson(tmp_path, DATA, image_teacher(), order=order)
    train_split = match(shuffled, DATA.splits)["train"]
    assert train_split.ids.tolist() == DATA.splits["train"].ids[order].tolist()
    teacher = image_teacher()
    seen = teacher.embed(teacher.prepare(list(train_split.inputs))).features
    np.testing.assert_allclose(seen, shuffled.features["train"].features(), rtol=1e-4, atol=1e-5)
    # and the check can fail: by position the rows belong to other images
    by_position = teacher.embed(teacher.prepare(list(DATA.splits["train"].inputs))).features
    assert not np.allclose(by_position, shuffled.features["train"].features(), atol=1e-2)


def test_targets_are_scaled_by_their_own_spread(tmp_path: Path) -> None:
    rows = np.array([[100.0, 0.0], [102.0, 0.0], [104.0, 6.0]], dtype=np.float32)
    store = make_store(tmp_path / "a", rows, chunk_rows=2)
    # deviations -2, 0, 2 and -2, -2, 4: 4 + 4 + 4 + 4 + 16 = 32 over 6 numbers
    assert spread(store) == pytest.approx(np.sqrt(32 / 6))
    assert spread(make_store(tmp_path / "b", rows[:1] * np.ones((3, 1), "f4"))) == 1.0


def test_rows_read_from_disk_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    store = make_store(tmp_path / "a", rows)
    memory = StoreRows(store)
    monkeypatch.setattr("distill.stored.MEMORY", 0)
    disk = StoreRows(store)
    for seed in range(5):
        wanted = np.random.default_rng(seed).integers(0, 100, 17)
        np.testing.assert_array_equal(memory(wanted).numpy(), rows[wanted])
        np.testing.assert_array_equal(disk(wanted).numpy(), rows[wanted])


def test_a_store_too_large_for_memory_teaches_too(
    tmp_path: Path, taught: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "usual", taught, epochs=6)
    monkeypatch.setattr("distill.stored.MEMORY", 0)
    (found,) = train(tmp_path / "chunks", taught, epochs=6).students
    first, second = (
        read_tensors(tmp_path / part / found.name / "student.safetensors")[0]["encoder.neck.bias"]
        for part in ("usual", "chunks")
    )
    assert not torch.equal(first, second)  # another order of rows
    losses = losses_of(tmp_path / "chunks" / found.name)
    assert losses[-1] < 0.8 * losses[0]


def test_the_full_heads_logits_are_its_weights_times_the_features(taught: Lesson) -> None:
    store = taught.features["test"]
    expected = store.features() @ taught.full_head.weight.T + taught.full_head.bias
    np.testing.assert_allclose(logits_of(taught.full_head, store), expected, rtol=1e-5, atol=1e-5)


def test_the_baselines_start_alike_and_are_trained_by_the_same_call(
    tmp_path: Path, taught: Lesson
) -> None:
    found = train(tmp_path, taught, baselines=True).students
    assert [student.method for student in found] == ["subspace", "labels", "logits"]
    assert [student.name for student in found] == [
        "resnet10t-gaussian-k5-s0",
        "resnet10t-labels",
        "resnet10t-logits",
    ]
    assert len({student.parameters for student in found[1:]}) == 1
    assert len({(student.epochs, student.seed) for student in found}) == 1
    # those without a space of five numbers classify what the body gives: eight
    assert [student.dim_out for student in found] == [5, 8, 8]
    heads = [
        read_tensors(tmp_path / student.name / "student.safetensors")[0]["head.weight"]
        for student in found
    ]
    assert not torch.equal(heads[1], heads[2])
    assert found[1].target == found[2].target == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "cosine"},
        {"loss": "normalised-mse"},
        {"loss": "relational"},
        {"loss": "logsum"},
        {"kl_weight": 1.0, "ce_weight": 0.5},
    ],
)
def test_every_loss_trains(tmp_path: Path, taught: Lesson, changes: dict[str, Any]) -> None:
    (found,) = train(tmp_path, taught, epochs=2, **changes).students
    made_by = read_card(tmp_path / found.name / "student.safetensors")["made_by"]
    assert all(made_by[key] == value for key, value in changes.items())


def test_what_is_finished_is_not_trained_again(tmp_path: Path, taught: Lesson) -> None:
    first = train(tmp_path, taught)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    listener = Listener()
    assert train(tmp_path, taught, progress=listener) == first
    assert listener.said == ["resnet10t-gaussian-k5-s0 is trained already"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    # baselines asked for later leave the student as it is
    found = train(tmp_path, taught, baselines=True)
    assert found.students[0] == first.students[0]
    assert len(found.students) == 3


def test_other_settings_are_refused_by_name_until_overwritten(
    tmp_path: Path, taught: Lesson
) -> None:
    train(tmp_path, taught, epochs=1)
    expected = "learning_rate = 0.01, now it is 0.1; use another run folder, or.*--overwrite"
    with pytest.raises(CheckpointError, match=expected):
        train(tmp_path, taught, epochs=1, learning_rate=0.1)
    with pytest.raises(CheckpointError, match='loss = "mse", now it is "cosine"'):
        train(tmp_path, taught, epochs=1, loss="cosine")
    other = dataclasses.replace(taught, preprocessing={**taught.preprocessing, "mean": 0})
    with pytest.raises(CheckpointError, match="preprocessing = "):
        train(tmp_path, other, epochs=1)
    (found,) = train(tmp_path, taught, epochs=2, overwrite=True).students
    assert found.epochs == 2


def test_interrupted_and_started_again_it_ends_with_the_same_bytes(
    tmp_path: Path, taught: Lesson
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, taught)
    with pytest.raises(KeyboardInterrupt):
        train(cut, taught, progress=Listener(stop_at="epoch 2"))
    listener = Listener()
    train(cut, taught, progress=listener)
    assert [line.partition(":")[0] for line in listener.told] == ["epoch 3"]
    for name in ("student.safetensors", "predictions.safetensors"):
        one, other = (part / "resnet10t-gaussian-k5-s0" / name for part in (whole, cut))
        assert one.read_bytes() == other.read_bytes()


def test_stores_of_other_examples_are_refused(tmp_path: Path, taught: Lesson) -> None:
    store = taught.targets["train"]
    rows, labels, ids = store.features(), store.labels(), store.ids()

    def lesson_with(**stores: Any) -> Lesson:
        return dataclasses.replace(taught, targets={**taught.targets, **stores})

    other_ids = make_store(tmp_path / "ids", rows, labels, ids=ids + 1)
    with pytest.raises(StageError, match="hold different examples; run project again"):
        train(tmp_path, lesson_with(train=other_ids))
    fewer = dataclasses.replace(
        DATA,
        splits={
            **DATA.splits,
            "train": dataclasses.replace(
                DATA.splits["train"],
                ids=DATA.splits["train"].ids[1:],
                labels=DATA.splits["train"].labels[1:],  # type: ignore[index]
                inputs=DATA.splits["train"].inputs[1:],
            ),
        },
    )
    with pytest.raises(
        StageError, match=r"41 rows stored, 40 in the data; example \d+ is only in the s"
    ):
        train(tmp_path, taught, data=fewer)
    relabelled = make_store(tmp_path / "labels", rows, (labels + 1) % 3, ids=ids)
    with pytest.raises(StageError, match=r"example \d+ has label \d in .*run extract and project"):
        train(tmp_path, lesson_with(train=relabelled))
    several = make_store(tmp_path / "views", np.repeat(rows, 2, axis=0), views=2)
    with pytest.raises(StageError, match="holds 2 views of each example"):
        train(tmp_path, lesson_with(train=several))
    targets = {name: store for name, store in taught.targets.items() if name != "test"}
    with pytest.raises(StageError, match="the projected store lacks the test split"):
        train(tmp_path, dataclasses.replace(taught, targets=targets))
    assert not (tmp_path / "resnet10t-gaussian-k5-s0").exists()


def test_names_of_students_are_names_of_folders() -> None:
    assert student_name("timm/resnet10t", "pca-k8-s0", "subspace") == "resnet10t-pca-k8-s0"
    assert student_name("my.code:Net", "pca-k8-s0", "labels") == "my.code-Net-labels"
    assert student_name("hf/../../x y", "t", "logits") == "x-y-logits"
