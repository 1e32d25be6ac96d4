"""Shipping a run's students: export, load, predict, and students that teach."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import distill
from distill.findings import Extracted
from distill.runs import recall
from stores import open_splits
from students import load, read_tensors, write_tensors
from teachers import load_teacher
from tests.cli_examples import Command, refused


def student_of(run: Path) -> Path:
    """The subspace-native one."""
    (folder,) = [
        path
        for path in (run / "students").iterdir()
        if not path.name.endswith(("labels", "logits"))
    ]
    return folder


def digits(folder: Path, count: int = 3) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{row}.png" for row in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    return paths


def test_export_writes_beside_the_student_and_not_twice(run_copy: Path, call: Command) -> None:
    folder = student_of(run_copy)
    code, out, err = call("export", "--run", run_copy)
    assert code == 0, err
    path = folder / "student.onnx"
    assert out.startswith(f"{path}: {folder.name} in float32, ")
    assert "pixel_values -> embedding, logits; embedding " in out
    before = path.read_bytes()
    refused(call("export", "--run", run_copy), "student.onnx is already there", "--overwrite")
    assert path.read_bytes() == before
    code, out, err = call("export", "--run", run_copy, "--overwrite", "--json")
    assert code == 0, err
    assert json.loads(out)["student"] == folder.name
    # a file of its own is a student by its path
    images = [str(path) for path in digits(folder / "images")]
    code, here, err = call("predict", *images, "--student", path)
    assert code == 0, err
    code, there, err = call("predict", *images, "--run", run_copy)
    assert code == 0, err
    assert [line.split("\t")[:2] for line in here.splitlines()] == [
        line.split("\t")[:2] for line in there.splitlines()
    ]
    refused(call("export", "--student", path), "is exported already; name the student it was")


def test_eight_bits_are_measured_on_the_runs_own_validation_rows(
    run_copy: Path, call: Command, tmp_path: Path
) -> None:
    path = tmp_path / "small.onnx"
    words = ("export", "--run", run_copy, "--int8", "--output", path)
    code, out, err = call(*words, "--json")
    assert code == 0, err
    cost = json.loads(out)["quantised"]
    validation = open_splits(run_copy / "features.zarr")["validation"]
    assert cost["rows"] == validation.spec.rows
    found = distill.load_predictor(student_of(run_copy), device="cpu")
    record = json.loads((student_of(run_copy) / "student.json").read_text())
    assert cost["float32"] == pytest.approx(record["validation_accuracy"])
    assert found.classes == distill.load_predictor(path, device="cpu").classes
    # of other data nothing can be measured
    file = student_of(run_copy) / "student.safetensors"
    tensors, card = read_tensors(file)
    other = card | {"made_by": card["made_by"] | {"dataset": "0123456789abcdef"}}
    write_tensors(file, tensors, other)
    refused(call(*words, "--overwrite"), "does not hold the data that", "0123456789ab then")


def test_export_says_what_is_wrong_in_one_line(
    run_copy: Path, call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export", "--run", run_copy)
    refused(call(*words, "--format", "onx"), "no format named 'onx'", "did you mean 'onnx'?")
    refused(call(*words, "--format", "torch-export", "--int8"), "--int8 is for --format onnx")
    refused(call(*words, "--output", tmp_path / "x.bin"), "name it .onnx or .pt2")
    refused(call(*words, "--output", tmp_path / "no" / "x.onnx"), "there is no folder")
    near = student_of(run_copy).name[:-1]
    refused(call(*words, "--student", near), f"no student named {near!r}", "did you mean")
    refused(call("export", "--run", tmp_path / "none"), "no student in", "train-student")
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda _: None)
        refused(call(*words), "onnx needs onnx and onnxruntime and onnxscript; pip install onnx")
    file = student_of(run_copy) / "student.safetensors"
    data = bytearray(file.read_bytes())
    data[-50] ^= 1
    file.write_bytes(data)
    refused(call(*words), "student.safetensors is damaged")
    refused(call("predict", "x", "--run", run_copy), "student.safetensors is damaged")
    file.write_bytes(b"")
    refused(call(*words), "cannot be read as safetensors")


def test_a_student_of_another_version_or_kind_is_refused(run_copy: Path, call: Command) -> None:
    file = student_of(run_copy) / "student.safetensors"
    tensors, card = read_tensors(file)
    for change, told in (
        ({"format": 99}, "has format 99 and this version reads 1"),
        ({"kind": "else"}, "holds no student"),
    ):
        write_tensors(file, tensors, card | change)
        for words in (("export",), ("predict", "x")):
            refused(call(*words, "--run", run_copy), told)


def test_students_are_loaded_in_python_with_and_without_preprocessing(small_run: Path) -> None:
    from tests.lessons_examples import picture

    folder = student_of(small_run)
    predictor = distill.load_predictor(folder, device="cpu")
    images = [picture(np.random.default_rng(row), 0) for row in range(5)]
    labels, shares = predictor.predict(images, batch_size=2)
    student = load(folder)
    with torch.inference_mode():
        logits = student.network(predictor.prepare(images))
    assert labels == tuple(student.classes[row] for row in logits.argmax(dim=1))
    np.testing.assert_allclose(shares, logits.softmax(dim=1), atol=1e-5)
    with torch.inference_mode():
        expected = student.embed(predictor.prepare(images))
    np.testing.assert_allclose(predictor.embed(images, batch_size=2), expected, atol=1e-5)
    with pytest.raises(distill.UserError, match="no student in"):
        distill.load_predictor(small_run)
    with pytest.raises(distill.UserError, match="no student me/none: there is no such folder"):
        distill.load_predictor("me/none")


def test_a_shared_student_predicts_too(small_run: Path, tmp_path: Path, call: Command) -> None:
    shared = tmp_path / "shared"
    load(student_of(small_run)).save_pretrained(shared)
    text = (shared / "README.md").read_text(encoding="utf-8")
    record = json.loads((student_of(small_run) / "student.json").read_text())
    assert f"{100 * record['test']['accuracy']:.2f} %" in text
    assert "| teacher | timm/resnet10t |" in text
    assert "| data | digits |" in text
    images = [str(path) for path in digits(tmp_path / "images")]
    _, here, err = call("predict", *images, "--student", shared, "--json")
    assert err == ""
    _, there, _ = call("predict", *images, "--run", small_run, "--json")
    assert json.loads(here)["predictions"] == json.loads(there)["predictions"]


@pytest.fixture(scope="module")
def taught_by_student(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher is a student, through all stages."""
    from distill.cli import main

    root = tmp_path_factory.mktemp("taught")
    name = f"run:{student_of(small_run)}"
    words = ["run", "--teacher", name, "--limit", "120", "--factor", "2", "--epochs", "1"]
    assert main([*words, "--run", str(root / "run"), "--quiet"]) == 0
    return root / "run"


def test_students_teach_students(small_run: Path, taught_by_student: Path) -> None:
    teacher, run = load(student_of(small_run)), taught_by_student
    stores = open_splits(run / "features.zarr")
    spec = stores["train"].spec
    assert (spec.dim, spec.logits) == (teacher.dim_out, len(teacher.classes))
    assert spec.classes == teacher.classes
    assert spec.made_by["teacher"] == f"run:{student_of(small_run)}"
    assert spec.made_by["preprocessing"] == dict(sorted(teacher.preprocessing.items()))
    # the rows are those that the student gives
    from distill.config import DataConfig
    from distill.datasets import load_dataset

    data = load_dataset(DataConfig(name="digits", limit=120)).splits["test"]
    predictor = distill.load_predictor(student_of(small_run), device="cpu")
    np.testing.assert_array_equal(stores["test"].ids(), data.ids)
    features = predictor.embed(data.inputs)
    np.testing.assert_allclose(stores["test"].features(), features, atol=1e-4)
    expected = np.asarray(teacher.network.head(torch.from_numpy(features)).detach())
    np.testing.assert_allclose(stores["test"].logits(), expected, atol=1e-4)
    # and all stages went on from there
    small = json.loads((student_of(run) / "student.json").read_text())
    assert small["dim_out"] == teacher.dim_out // 2
    report = json.loads((run / "report.json").read_text())
    assert report["teacher"] == f"run:{student_of(small_run)}"
    extracted = recall(run / "extracted.json", Extracted)
    assert extracted is not None
    assert f"the teacher is a student itself: {student_of(small_run).name}" in extracted.notes
    assert not any("random" in note for note in extracted.notes)


def test_the_head_of_a_teaching_student_is_cut_to_the_datas_classes(small_run: Path) -> None:
    from distill.config import settle
    from distill.pipeline.pointing import student_as_teacher

    name = f"run:{student_of(small_run)}"
    asked = settle({}, {"teacher.name": name, "compute.device": "cpu"})
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8))

    def said(*classes: str) -> Any:
        teacher = student_as_teacher(asked, classes, fresh=False, image_size=0)
        return teacher, teacher.embed(teacher.prepare([image]))

    whole, all_classes = said()
    assert whole.card.classes == load(student_of(small_run)).classes
    teacher, some = said("7", "2")
    assert teacher.card.classes == ("7", "2")
    np.testing.assert_array_equal(some.features, all_classes.features)
    assert all_classes.logits is not None
    np.testing.assert_allclose(some.logits, all_classes.logits[:, [7, 2]], atol=1e-6)
    teacher, other = said("cat", "2")
    assert (teacher.card.classes, other.logits) == ((), None)
    assert any("does not know 'cat'" in note for note in teacher.card.notes)


def test_other_weights_of_the_same_student_are_another_teacher(
    small_run: Path, taught_by_student: Path, tmp_path: Path, call: Command
) -> None:
    run = Path(shutil.copytree(taught_by_student, tmp_path / "run"))
    weights = open_splits(run / "features.zarr")["train"].spec.made_by["weights"]
    moved = Path(shutil.copytree(student_of(small_run), tmp_path / "moved"))
    tensors, card = read_tensors(moved / "student.safetensors")
    tensors["head.bias"] += 1
    write_tensors(moved / "student.safetensors", tensors, card)
    refused(call("extract", "--run", run, "--teacher", f"run:{moved}"), "extract --overwrite")
    call("extract", "--run", tmp_path / "other", "--teacher", f"run:{moved}", "--limit", "30")
    spec = open_splits(tmp_path / "other" / "features.zarr")["train"].spec
    assert len(weights) == len(spec.made_by["weights"])
    assert weights != spec.made_by["weights"]


def test_what_cannot_be_a_students_is_refused(
    small_run: Path, tmp_path: Path, call: Command
) -> None:
    def extract(name: str, *words: str) -> Any:
        return call("extract", "--run", tmp_path / "run", "--teacher", name, *words)

    refused(extract("run:nowhere"), "no student at nowhere", "or a run that has one")
    several = extract(f"run:{small_run}")
    refused(several, "has several students; name one:", f"run:{student_of(small_run)}", "-labels")
    name = f"run:{student_of(small_run)}"
    refused(extract(name, "--layer", "body"), "teacher.layer = 'body' is for networks")
    refused(extract(name, "--weights", "x.pth"), "--weights x.pth is for networks")
    refused(
        call("train-teacher", "--run", tmp_path / "run", "--teacher", name),
        "is a student and teaches as it is; leave out train-teacher",
    )
    texts = tmp_path / "texts.csv"
    texts.write_text("text,label\n" + "".join(f"word {row},{row % 2}\n" for row in range(40)))
    refused(extract(name, "--data", f"csv:{texts}"), "reads images and", "holds texts")
    assert not (tmp_path / "run").exists()
    code, out, _ = call("doctor", "--run", tmp_path / "run", "--config", config(tmp_path, name))
    assert f"teacher: the student at {student_of(small_run)}" in out
    code, out, _ = call("doctor", "--run", tmp_path / "run", "--config", config(tmp_path, "run:no"))
    assert code == 1
    assert "MISSING  teacher: no student at no; name a folder that is there" in out


def config(folder: Path, teacher: str) -> Path:
    path = folder / "config.toml"
    path.write_text(f'[data]\nname = "digits"\n[teacher]\nname = "{teacher}"\n')
    return path


def test_a_teaching_student_of_another_image_size_prepares_so(
    small_run: Path, tmp_path: Path, call: Command
) -> None:
    name = f"run:{student_of(small_run)}"
    words = ("extract", "--teacher", name, "--limit", "30", "--image-size", "48")
    code, _, err = call(*words, "--run", tmp_path / "run")
    assert code == 0, err
    made_by = open_splits(tmp_path / "run" / "features.zarr")["train"].spec.made_by
    assert made_by["preprocessing"]["input_size"] == [3, 48, 48]
    assert made_by["preprocessing"]["image_size"] == 48


def test_a_resized_preparation_is_the_teachers_own_at_that_size() -> None:
    from teachers import TeacherError, resized

    noise = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    image = Image.fromarray(noise)
    for name in ("timm/resnet10t", "torchvision/squeezenet1_1"):
        there, at_64, at_96 = (
            load_teacher(name, weights="random", image_size=size) for size in (0, 64, 96)
        )
        for teacher, size in ((at_64, 64), (at_96, 96)):
            recorded, prepare = resized(there.card.preprocessing, size)
            assert recorded == teacher.card.preprocessing
            ours, theirs = (made([image])["pixel_values"] for made in (prepare, teacher.prepare))
            assert torch.equal(ours, theirs)
    with pytest.raises(TeacherError, match="prepared by code of your own cannot be made 32 px"):
        resized({}, 32)
