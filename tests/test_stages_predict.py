"""Predicting with a student: files, folders, lines, and what cannot be read."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from distill.answers import write_answers
from distill.config import DataConfig
from distill.datasets import BadInputError, DataError, Dataset
from distill.errors import StageError
from distill.findings import Predictions
from distill.predictor import load_predictor
from distill.progress import Silent
from distill.stages.predict import predict
from distill.stages.train_student import train_student
from students import CheckpointError, read_tensors, write_tensors
from teachers import Teacher, TeacherError, load_teacher
from tests.lessons_examples import (
    CLASSES,
    dataset,
    image_teacher,
    lesson,
    opened,
    picture,
    student_settings,
)
from tests.teachers_examples import bert_folder

TINY_BERT = {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def taught(root: Path, data: Dataset, teacher: Teacher, **changes: Any) -> Path:
    found = train_student(
        data,
        lesson(root / "lesson", data, teacher),
        settings=student_settings(**changes),
        root=root / "students",
        workers=0,
        device="cpu",
        progress=Silent(),
    )
    return root / "students" / found.students[0].name


@pytest.fixture(scope="module")
def image_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(tmp_path_factory.mktemp("image"), dataset(), image_teacher(), epochs=25)


@pytest.fixture(scope="module")
def text_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("text")
    folder = bert_folder(root / "bert")
    teacher = load_teacher(f"hf/{folder}", weights="pretrained", max_length=16)
    shape = {"name": "hf/bert", "options": TINY_BERT, "epochs": 40}
    made = taught(root, dataset("text"), teacher, **shape)
    shutil.rmtree(folder)  # nothing of the teacher is needed from here on
    return made


def say(
    folder: Path,
    *inputs: str,
    skip_bad: bool = False,
    progress: Any = None,
    columns: DataConfig | None = None,
) -> Predictions:
    return predict(
        folder,
        inputs,
        batch_size=2,
        device="cpu",
        skip_bad=skip_bad,
        progress=progress or Silent(),
        columns=columns,
    )


def pictures(folder: Path, *labels: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    paths = []
    for place, label in enumerate(labels):
        paths.append(folder / f"{place}-{CLASSES[label]}.png")
        picture(rng, label).save(paths[-1])
    return paths


def test_files_and_folders_of_images_are_named_in_order(
    image_student: Path, tmp_path: Path
) -> None:
    pictures(tmp_path / "many", 2, 0, 1)
    (tmp_path / "many" / "notes.txt").write_text("not an image")
    (alone,) = pictures(tmp_path / "one", 1)
    found = say(image_student, str(alone), str(tmp_path / "many"))
    assert found.student == image_student.name
    names = [Path(prediction.input).name for prediction in found.predictions]
    assert names == ["0-green.png", "0-blue.png", "1-red.png", "2-green.png"]
    assert [p.label for p in found.predictions] == ["green", "blue", "red", "green"]
    assert all(1 / 3 <= prediction.probability <= 1 for prediction in found.predictions)


def test_a_folder_is_listed_as_for_training(image_student: Path, tmp_path: Path) -> None:
    """Links are followed; what a system leaves beside pictures is none of them."""
    pictures(tmp_path / "elsewhere", 0)
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for debris in ("._a.png", ".thumbnails/a.png", "__MACOSX/a.png"):
        (tmp_path / "many" / debris).parent.mkdir(exist_ok=True)
        (tmp_path / "many" / debris).write_bytes(b"no image")
    found = say(image_student, str(tmp_path / "many"))
    assert [Path(one.input).relative_to(tmp_path).as_posix() for one in found.predictions] == [
        "many/b/0-red.png"
    ]


def test_the_answer_does_not_depend_on_the_batch(image_student: Path) -> None:
    predictor = load_predictor(image_student)
    images = list(dataset().splits["test"].inputs)
    together = predictor.probabilities(images, batch_size=23)
    apart = predictor.probabilities(images, batch_size=1)
    np.testing.assert_allclose(apart, together, rtol=1e-4, atol=1e-6)
    assert predictor.probabilities([]).shape == (0, 3)


def test_the_preprocessing_is_the_teachers_to_the_bit(image_student: Path) -> None:
    images = list(dataset().splits["test"].inputs)
    ours = load_predictor(image_student).prepare(images)["pixel_values"]
    theirs = image_teacher().prepare(images)["pixel_values"]
    assert torch.equal(ours, theirs)


def test_torchvisions_preprocessing_is_rebuilt_to_the_bit(tmp_path: Path) -> None:
    from teachers import rebuild_prepare

    teacher = load_teacher("torchvision/squeezenet1_1", weights="random", image_size=64)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8))
    ours = rebuild_prepare(tmp_path, "image", teacher.card.preprocessing)([image])["pixel_values"]
    assert torch.equal(ours, teacher.prepare([image])["pixel_values"])


def test_an_image_that_cannot_be_read_is_named_or_skipped(
    image_student: Path, tmp_path: Path
) -> None:
    good, bad = pictures(tmp_path, 0, 1)
    bad.write_bytes(b"torn")
    with pytest.raises(BadInputError, match=f"{bad.name}: unreadable image"):
        say(image_student, str(good), str(bad))
    listener = Listener()
    found = say(image_student, str(bad), str(good), skip_bad=True, progress=listener)
    assert [prediction.label for prediction in found.predictions] == ["red"]
    assert listener.said == [f"skipped: {bad}: unreadable image (not an image)"]
    with pytest.raises(StageError, match="no input could be read; skipped: 1"):
        say(image_student, str(bad), skip_bad=True)


def test_what_is_not_there_is_said(image_student: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="there is no image file or folder nowhere"):
        say(image_student, "nowhere")
    with pytest.raises(StageError, match="nothing to predict in"):
        say(image_student, str(tmp_path))
    with pytest.raises(StageError, match=r"no student in .*; run train-student first"):
        say(tmp_path, "x")


def test_lines_of_text_are_told_apart_without_the_teacher(
    text_student: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the dog ran\n\nthe bird flew on the mat\n")
    found = say(text_student, "the cat sat", str(lines))
    assert [(p.input, p.label) for p in found.predictions] == [
        ("the cat sat", "red"),  # the classes' names are colours, whatever they stand for
        ("the dog ran", "green"),
        ("the bird flew on the mat", "blue"),
    ]


def test_a_student_of_too_few_positions_is_refused(tmp_path: Path) -> None:
    """It would fail at the first text that is longer than what it can read."""
    teacher = load_teacher(f"hf/{bert_folder(tmp_path / 'bert')}", max_length=16)
    options = {**TINY_BERT, "max_position_embeddings": 4}
    with pytest.raises(StageError, match=r"positions for 4 tokens.*reads 16.*embeddings = 16"):
        taught(tmp_path, dataset("text"), teacher, name="hf/bert", options=options)


def test_a_line_ends_where_editors_end_it(text_student: Path, tmp_path: Path) -> None:
    """Neither at a separator of Unicode in a text from the web, nor does a mark begin it."""
    lines = ["the dog ran", "the cat\u2028sat\x0cthere", "the bird flew"]
    (tmp_path / "lines.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    found = say(text_student, str(tmp_path / "lines.txt"))
    assert [prediction.input for prediction in found.predictions] == lines


def test_a_file_that_is_not_text_is_refused(text_student: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BadInputError, match="is not a text file"):
        say(text_student, str(path))
    found = say(text_student, str(path), "the cat sat", skip_bad=True)
    assert [p.label for p in found.predictions] == ["red"]
    with pytest.raises(StageError, match="no input could be read; skipped: 1"):
        say(text_student, str(path), skip_bad=True)


def test_a_mistyped_name_of_a_file_is_no_sentence(text_student: Path, tmp_path: Path) -> None:
    for name in ("missing.csv", "no/such.TXT", str(tmp_path / "rows.parquet")):
        with pytest.raises(StageError, match=f"there is no file {name}"):
            say(text_student, name)
    with pytest.raises(StageError, match="is a folder; the student reads texts"):
        say(text_student, str(tmp_path))
    sentences = ("read the.txt", "the cat v1.0", "x" * 5000 + ".csv")
    assert [p.input for p in say(text_student, *sentences).predictions] == list(sentences)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_a_name_that_is_no_utf_8_is_told_in_every_file(
    image_student: Path, tmp_path: Path, suffix: str
) -> None:
    (path,) = pictures(tmp_path, 1)
    odd = tmp_path / os.fsdecode(b"\xff\xfe.png")
    path.rename(odd)
    found = say(image_student, str(tmp_path))
    assert found.predictions[0].input == f"{tmp_path}/\\udcff\\udcfe.png"
    write_answers(found.predictions, tmp_path / f"found{suffix}")
    assert b"udcfe.png" in (tmp_path / f"found{suffix}").read_bytes()


@pytest.mark.parametrize("size", [0, -3])
def test_inputs_are_answered_one_at_a_time_at_least(image_student: Path, size: int) -> None:
    with pytest.raises(StageError, match=f"1 or more at a time, got {size}"):
        predict(
            image_student, ["a.png"], batch_size=size, device="cpu", skip_bad=False,
            progress=Silent(),
        )  # fmt: skip


def test_of_no_inputs_there_are_no_numbers(image_student: Path) -> None:
    predictor = load_predictor(image_student, device="cpu")
    assert predictor.embed([]).shape == (0, predictor.student.dim_out)
    assert predictor.predict([])[0] == ()


def test_blank_lines_are_left_out_and_said(text_student: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the dog ran\n\n   \n")
    listener = Listener()
    found = say(text_student, "", str(lines), progress=listener)
    assert [p.input for p in found.predictions] == ["the dog ran"]
    assert listener.said == [
        "skipped: blank lines, 1 in all",
        f"skipped: blank lines of {lines}, 2 in all",
    ]
    with pytest.raises(StageError, match="nothing to predict in"):
        say(text_student, " ")


def test_pairs_of_texts_are_lines_with_a_tab(tmp_path: Path) -> None:
    import dataclasses

    folder = bert_folder(tmp_path / "bert")
    teacher = load_teacher(f"hf/{folder}", weights="pretrained", max_length=16)
    data = dataset("text")
    splits = {
        name: dataclasses.replace(split, inputs=opened([(t, "it was") for t in split.inputs]))
        for name, split in data.splits.items()
    }
    pairs = dataclasses.replace(data, splits=splits)
    student = taught(tmp_path, pairs, teacher, name="hf/bert", options=TINY_BERT, epochs=1)
    there, back = say(student, "the cat\tit was", "it was\tthe cat").predictions
    predictor = load_predictor(student, device="cpu")
    _, shares = predictor.predict([("the cat", "it was"), ("it was", "the cat")], batch_size=2)
    assert there.probability == pytest.approx(float(shares[0].max()), rel=1e-5)
    assert back.probability == pytest.approx(float(shares[1].max()), rel=1e-5)
    assert there.probability != pytest.approx(back.probability, rel=1e-4)  # the order matters
    with pytest.raises(BadInputError, match="reads pairs of texts, and 'the cat' has no tab"):
        say(student, "the cat")
    found = say(student, "the cat", "the cat\tit was", skip_bad=True)
    assert [p.input for p in found.predictions] == ["the cat\tit was"]


def columns(*names: str) -> DataConfig:
    return DataConfig(text_columns=names)


def test_tables_of_texts_are_read_by_their_column(text_student: Path, tmp_path: Path) -> None:
    texts = ["the dog ran", 'a "cat", it was', "the bird flew"]
    plain = [p.label for p in say(text_student, *texts).predictions]
    table = pyarrow.table({"id": [7, 8, 9], "text": texts, "label": ["x", "y", "x"]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "x.csv")
    rows = [json.dumps({"text": text, "id": 1}) for text in texts]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    for name in ("x.parquet", "x.csv", "x.jsonl"):
        found = say(text_student, str(tmp_path / name), "the cat sat").predictions
        assert [p.input for p in found] == [*texts, "the cat sat"]
        assert [p.label for p in found] == [*plain, "red"]
    named = say(text_student, str(tmp_path / "x.csv"), columns=columns("label"))
    assert [p.input for p in named.predictions] == ["x", "y", "x"]
    with pytest.raises(DataError, match=r"no column 'txt'; it has .*did you mean 'text'"):
        say(text_student, str(tmp_path / "x.csv"), columns=columns("txt"))
    with pytest.raises(
        StageError, match=r"reads single texts, not 'text' and 'label' of .*--text-c"
    ):
        say(text_student, str(tmp_path / "x.csv"), columns=columns("text", "label"))


def test_a_row_without_a_text_is_named_or_skipped(text_student: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,text\n1,the dog ran\n2,\n3,the cat\n")
    with pytest.raises(BadInputError, match=r"x\.csv: row 1: the text is missing"):
        say(text_student, str(path))
    listener = Listener()
    found = say(text_student, str(path), skip_bad=True, progress=listener)
    assert [p.input for p in found.predictions] == ["the dog ran", "the cat"]
    assert listener.said == [f"skipped: {path}: row 1: the text is missing"]
    for text in ("", "text\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"is empty|has no rows"):
            say(text_student, str(path))


def test_tables_of_images_are_read_when_their_turn_comes(
    image_student: Path, text_student: Path, tmp_path: Path
) -> None:
    files = pictures(tmp_path / "many", 2, 0, 1)
    held = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    held[1]["bytes"] = b"torn"
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": held}), path)
    found = say(image_student, str(path), skip_bad=True)
    assert [(p.input, p.label) for p in found.predictions] == [
        (f"{path}: row 0", "blue"),
        (f"{path}: row 2", "green"),
    ]
    with pytest.raises(BadInputError, match="row 1: unreadable image"):
        say(image_student, str(path))
    with pytest.raises(StageError, match="holds images and the student reads texts"):
        say(text_student, str(path))


def test_no_more_than_a_batch_of_images_is_open_at_a_time(
    image_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    import weakref

    from distill.datasets.images import open_image

    opened_ones: list[Any] = []
    most = 0

    def watched(path: Path, name: str) -> Image.Image:
        nonlocal most
        image = open_image(path, name)
        opened_ones.append(weakref.ref(image))
        gc.collect()
        most = max(most, sum(there() is not None for there in opened_ones))
        return image

    monkeypatch.setattr("distill.stages.predict.open_image", watched)
    pictures(tmp_path, *[row % 3 for row in range(41)])
    steps: list[int] = []

    class Counting(Listener):
        @contextmanager
        def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
            assert (label, total, unit) == ("predict", 41, "inputs")
            yield steps.append

    assert len(say(image_student, str(tmp_path), progress=Counting()).predictions) == 41
    assert steps == [2] * 20 + [1]
    assert 2 <= most <= 4  # two at work, and two just done with


@pytest.fixture
def copy(image_student: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(image_student, tmp_path / "copy"))


def test_a_damaged_student_is_refused(copy: Path) -> None:
    path = copy / "student.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        say(copy, "x")


def test_a_card_that_does_not_say_how_to_prepare_is_refused(copy: Path) -> None:
    path = copy / "student.safetensors"
    tensors, card = read_tensors(path)
    lost = {k: v for k, v in card["preprocessing"].items() if k != "mean"}
    write_tensors(path, tensors, card | {"preprocessing": lost})
    with pytest.raises(TeacherError, match="does not say how images are prepared"):
        say(copy, "x")
    write_tensors(path, tensors, card | {"preprocessing": {}})
    with pytest.raises(TeacherError, match="preprocessing of the user's own; prepare"):
        say(copy, "x")


def test_a_missing_tokenizer_is_named(text_student: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(text_student, tmp_path / "copy"))
    shutil.rmtree(copied / "tokenizer")
    with pytest.raises(TeacherError, match="tokenizer is missing"):
        say(copied, "the cat")
    (copied / "tokenizer").mkdir()
    with pytest.raises(TeacherError, match="tokenizer cannot be read"):
        say(copied, "the cat")
