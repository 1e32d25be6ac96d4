"""Exporting students: the same numbers in another runtime, and the facts inside the file."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

from distill.datasets import Inputs, Split
from distill.errors import StageError
from distill.findings import ExportedStudent
from distill.predictor import load_predictor
from distill.progress import Silent
from distill.shipping import (
    FORMATS,
    check_output,
    choose_format,
    graph_of,
    read_facts,
    read_onnx,
    writing,
)
from distill.stages.export import export, export_int8
from distill.text import as_text
from students import PretrainedStudent, load
from tests.lessons_examples import Listed, opened, picture
from tests.students_examples import CLASSES, TIMM, image_student, text_student


def exported(student: Path, path: Path) -> tuple[PretrainedStudent, ExportedStudent]:
    there = load(student)
    form = choose_format("", path)
    return there, export(there, "tiny", path, form=form, progress=Silent())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def of_images(folder: Path) -> tuple[PretrainedStudent, ExportedStudent]:
    return exported(image_student(folder / "images", prefixes=(2,)), folder / "images.onnx")


@pytest.fixture(scope="module")
def of_texts(folder: Path) -> tuple[PretrainedStudent, ExportedStudent]:
    return exported(text_student(folder / "texts"), folder / "texts.onnx")


def session(found: ExportedStudent) -> Any:
    return onnxruntime.InferenceSession(found.path, providers=["CPUExecutionProvider"])


def pixels(rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return {"pixel_values": torch.randn(rows, 3, 32, 32, generator=generator)}


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 17, 40])
def test_images_get_the_same_numbers_in_batches_of_any_size(of_images: Any, rows: int) -> None:
    student, found = of_images
    embedding, logits, narrow = session(found).run(
        ["embedding", "logits", "logits_2"], {"pixel_values": pixels(rows)["pixel_values"].numpy()}
    )
    with torch.inference_mode():
        np.testing.assert_allclose(embedding, student.embed(pixels(rows)), rtol=0, atol=1e-4)
        np.testing.assert_allclose(logits, student(pixels(rows)), rtol=0, atol=1e-4)
        np.testing.assert_allclose(narrow, student(pixels(rows), width=2), rtol=0, atol=1e-4)
    assert embedding.shape == (rows, 5)
    assert np.abs(logits - logits.mean(axis=0)).max() > 1e-3 or rows == 1  # rows differ


@pytest.mark.parametrize(("rows", "tokens"), [(1, 2), (1, 16), (3, 7), (17, 4)])
def test_texts_get_the_same_numbers_at_any_length(of_texts: Any, rows: int, tokens: int) -> None:
    student, found = of_texts
    rng = np.random.default_rng(tokens)
    ids = rng.integers(0, student.blueprint.vocabulary, (rows, tokens))
    mask = np.arange(tokens) < rng.integers(1, tokens + 1, (rows, 1))
    batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    embedding, logits = session(found).run(["embedding", "logits"], batch)
    prepared = {name: torch.from_numpy(values) for name, values in batch.items()}
    with torch.inference_mode():
        np.testing.assert_allclose(embedding, student.embed(prepared), rtol=0, atol=1e-4)
        np.testing.assert_allclose(logits, student(prepared), rtol=0, atol=1e-4)
        # the tokenizer gives types too, and all of them are 0
        types = {**prepared, "token_type_ids": torch.zeros_like(prepared["input_ids"])}
        assert torch.equal(student(types), student(prepared))


def test_inputs_outputs_and_axes_have_names(of_images: Any, of_texts: Any) -> None:
    def told(found: ExportedStudent) -> dict[str, list[Any]]:
        running = session(found)
        return {v.name: v.shape for v in (*running.get_inputs(), *running.get_outputs())}

    assert told(of_images[1]) == {
        "pixel_values": ["batch", 3, 32, 32],
        "embedding": ["batch", 5],
        "logits": ["batch", 3],
        "logits_2": ["batch", 3],
    }
    assert told(of_texts[1]) == {
        "input_ids": ["batch", "tokens"],
        "attention_mask": ["batch", "tokens"],
        "embedding": ["batch", 5],
        "logits": ["batch", 3],
    }


def test_the_file_says_how_it_is_used(of_images: Any, of_texts: Any) -> None:
    facts = session(of_images[1]).get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert json.loads(facts["preprocessing"]) == TIMM
    assert (facts["student"], facts["modality"], facts["precision"]) == ("tiny", "image", "float32")
    assert (facts["format"], facts["embedding"], facts["widths"]) == ("1", "5", "[2]")
    assert json.loads(facts["made_by"])["seed"] == 7
    facts = session(of_texts[1]).get_modelmeta().custom_metadata_map
    tokenizer = json.loads(json.loads(facts["files"])["tokenizer/tokenizer.json"])
    assert tokenizer["model"]["vocab"]["cat"] == 7
    onnx.checker.check_model(onnx.load(of_texts[1].path))


def test_the_finding_says_what_was_made_and_checked(of_images: Any, of_texts: Any) -> None:
    found = of_images[1]
    assert (found.format, found.precision, found.quantised) == ("onnx", "float32", None)
    assert (found.inputs, found.outputs) == (("pixel_values",), ("embedding", "logits", "logits_2"))
    assert (found.dim_out, found.classes, found.batches) == (5, 3, (1, 3, 17))
    assert 0 <= found.largest_difference < 1e-4
    assert found.bytes == Path(found.path).stat().st_size
    assert ExportedStudent.from_json(json.loads(json.dumps(found.to_json()))) == found
    text = as_text(of_texts[1])
    assert "input_ids, attention_mask -> embedding, logits; embedding 5, classes 3" in text
    assert "checked against PyTorch in float32 at 1, 3 and 17 rows: largest difference" in text


@pytest.mark.parametrize("modality", ["images", "texts"])
def test_a_torch_program_is_read_back_and_knows_the_same(folder: Path, modality: str) -> None:
    makers: dict[str, Any] = {"images": image_student, "texts": text_student}
    make = makers[modality]
    student, found = exported(make(folder / f"{modality}-pt2"), folder / f"{modality}.pt2")
    assert (found.format, Path(found.path).suffix) == ("torch-export", ".pt2")
    module = torch.export.load(found.path).module()
    graph = graph_of(student)
    for rows in (1, 2, 17, 23):
        batch = graph.example(rows, seed=rows + 1)
        with torch.inference_mode():
            results = module(*(batch[name] for name in graph.inputs))
            torch.testing.assert_close(results[0], student.embed(batch), rtol=0, atol=1e-4)
            torch.testing.assert_close(results[1], student(batch), rtol=0, atol=1e-4)
    facts = read_facts(Path(found.path))
    assert facts.classes == CLASSES
    assert facts.preprocessing == student.preprocessing
    assert ("tokenizer/tokenizer.json" in facts.files) == (modality == "texts")


def test_students_without_attention_are_exported_too(tmp_path: Path) -> None:
    folder = text_student(tmp_path / "run", name="static/8", options={"weighting": True})
    student, found = exported(folder, tmp_path / "static.onnx")
    batch = graph_of(student).example(5, seed=9)
    (logits,) = session(found).run(["logits"], {k: v.numpy() for k, v in batch.items()})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, student(batch), rtol=0, atol=1e-4)


def test_pairs_of_texts_tell_which_side_a_token_is_of(folder: Path) -> None:
    student, found = exported(text_student(folder / "pairs", pairs=True), folder / "pairs.onnx")
    assert found.inputs == ("input_ids", "attention_mask", "token_type_ids")
    prepared = load_predictor(folder / "pairs" / "students" / "tiny-gaussian-k5-s0").prepare(
        [("the cat", "sat on the mat"), ("a", "dog")]
    )
    assert prepared["token_type_ids"].any()
    feed = {name: tensor.numpy() for name, tensor in prepared.items()}
    (logits,) = session(found).run(["logits"], feed)
    with torch.inference_mode():
        np.testing.assert_allclose(logits, student(prepared), rtol=0, atol=1e-4)


def test_an_exported_student_predicts_as_the_student_does(of_images: Any, of_texts: Any) -> None:
    rng = np.random.default_rng(0)
    inputs: dict[str, list[Any]] = {
        "image": [picture(rng, label) for label in (0, 1, 2, 0, 1)],
        "text": ["the cat sat", "a dog", "the bird flew over the moon and then"],
    }
    for student, found in (of_images, of_texts):
        there, here = (load_predictor(path) for path in (str(student.folder), found.path))
        rows = inputs[student.modality]
        assert here.predict(rows, batch_size=2)[0] == there.predict(rows, batch_size=2)[0]
        np.testing.assert_allclose(
            here.probabilities(rows), there.probabilities(rows), rtol=0, atol=1e-5
        )
        np.testing.assert_allclose(here.embed(rows), there.embed(rows), rtol=0, atol=1e-4)
        assert (here.classes, here.name) == (CLASSES, Path(found.path).stem)


def test_a_file_that_is_off_is_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = load(image_student(tmp_path / "run"))
    path = tmp_path / "there.onnx"
    path.write_bytes(b"old")
    graph = graph_of(student)
    expected = [graph.expected(batch) for batch in graph.batches()]
    # one number of one row, by 1.2e-4 of the largest: beyond what is allowed; 0.8e-4 is not
    for share, good in ((0.8e-4, True), (1.2e-4, False)):
        found = [tuple(array.copy() for array in results) for results in expected]
        found[2][1][16, 2] += share * np.abs(found[2][1]).max()
        if good:
            assert writing.check(graph, found) == pytest.approx(share, rel=1e-2)
            continue
        with pytest.raises(
            StageError, match=r"does not give what the student gives: off by 1\.2e-04"
        ):
            writing.check(graph, found)
    found[0][0][0, 0] = np.nan
    with pytest.raises(StageError, match="off by inf"):
        writing.check(graph, found)
    found[0] = tuple(array[:, :-1] for array in found[0])
    with pytest.raises(StageError, match=r"a result has shape \(1, 4\) instead of \(1, 5\)"):
        writing.check(graph, found)

    monkeypatch.setattr("distill.shipping.writing.TOLERANCE", 0.0)
    with pytest.raises(StageError, match="nothing was kept"):
        export(student, "tiny", path, form="onnx", progress=Silent())
    assert path.read_bytes() == b"old"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["run", "there.onnx"]


@dataclass(frozen=True)
class Watched(Listed):
    """Remembers which rows were read."""

    read_rows: list[int] = field(default_factory=list)

    def read(self, row: int) -> Any:
        self.read_rows.append(row)
        return super().read(row)


@pytest.fixture(scope="module")
def small_bits(folder: Path) -> tuple[Any, ExportedStudent, Split, Split]:
    predictor = load_predictor(image_student(folder / "int8"))
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    inputs = [Image.fromarray(pixels) for pixels in noise]
    assert isinstance(predictor.student, PretrainedStudent)
    head, mean = predictor.student.network.head, predictor.embed(inputs).mean(axis=0)
    with torch.no_grad():  # untrained, it would say the same of all; so it wavers
        head.bias.copy_(-head.weight @ torch.from_numpy(mean))
    answers = predictor.probabilities(inputs).argmax(axis=1)
    assert len(set(answers)) > 1
    labels = np.where(rng.random(300) < 0.1, (answers + 1) % 3, answers).astype(np.int64)
    split, train = (
        Split(name=name, ids=np.arange(300), labels=labels, inputs=rows)
        for name in ("validation", "train")
        for rows in (Inputs(Watched(inputs), np.arange(300)),)
    )
    path = folder / "images.int8.onnx"
    found = export_int8(predictor, path, train=train, validation=split, progress=Silent())
    return predictor, found, split, train


def test_eight_bits_are_measured_on_validation(small_bits: Any, of_images: Any) -> None:
    predictor, found, split, train = small_bits
    cost = found.quantised
    assert len(split.inputs.reader.read_rows) == 2 * 300  # as it was, and with eight bits
    for_ranges = train.inputs.reader.read_rows
    assert len(for_ranges) == len(set(for_ranges)) == 256
    assert for_ranges[:256] != list(range(256))  # drawn, so that no order of classes matters
    inputs = list(split.inputs)
    before = predictor.probabilities(inputs).argmax(axis=1)
    after = load_predictor(found.path).probabilities(inputs).argmax(axis=1)
    assert found.precision == "int8"
    assert (cost.rows, cost.calibration_rows) == (300, 256)
    assert cost.float32 == np.mean(before == split.labels)
    assert cost.int8 == np.mean(after == split.labels)
    assert cost.agreement == np.mean(before == after)
    assert cost.difference.value == pytest.approx(cost.int8 - cost.float32)
    assert cost.difference.against == "float32"
    assert 0.5 < cost.agreement < 1
    assert cost.int8 != cost.float32
    facts = read_onnx(Path(found.path)).facts
    assert facts.precision == "int8"
    assert facts.validation == json.loads(json.dumps(cost.to_json()))
    operators = {node.op_type for node in onnx.load(found.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    text = as_text(found)
    assert "int8 on 300 validation rows: " in text
    assert "ranges from 256 training rows" in text
    assert ExportedStudent.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_eight_bits_of_texts_take_no_examples(folder: Path) -> None:
    predictor = load_predictor(text_student(folder / "texts-int8"))
    words = ["the cat", "a dog sat on the mat", "the bird", "moon"]
    labels = predictor.probabilities(words).argmax(axis=1).astype(np.int64)
    split = Split(name="validation", ids=np.arange(4), labels=labels, inputs=opened(words))
    path = folder / "texts.int8.onnx"
    found = export_int8(predictor, path, train=split, validation=split, progress=Silent())
    assert found.quantised is not None
    assert (found.quantised.float32, found.quantised.calibration_rows) == (1.0, 0)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert any("Integer" in name or "Quantize" in name for name in operators)
    (rows,) = {len(load_predictor(path).embed(words))}
    assert rows == 4


def test_without_labels_nothing_tells_what_eight_bits_cost(folder: Path, tmp_path: Path) -> None:
    predictor = load_predictor(image_student(tmp_path / "run"))
    split = Split(name="validation", ids=np.arange(0), labels=None, inputs=opened([]))
    path = tmp_path / "x.onnx"
    with pytest.raises(StageError, match="no labels: nothing tells what int8 costs"):
        export_int8(predictor, path, train=split, validation=split, progress=Silent())


def test_a_network_that_cannot_be_traced_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_student.py").write_text(
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    def __init__(self, dim_out):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(3, dim_out)\n"
        "    def forward(self, prepared):\n"
        "        pixels = prepared['pixel_values'].mean(dim=(2, 3))\n"
        "        return self.layer(pixels) if pixels.sum().item() > 0 else self.layer(-pixels)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    student = load(image_student(tmp_path / "run", name="odd_student:Odd", options={}))
    for name, form in (("x.onnx", "onnx"), ("x.pt2", "torch-export")):
        with pytest.raises(StageError, match="odd_student:Odd cannot be exported") as caught:
            export(student, "odd", tmp_path / name, form=form, progress=Silent())
        assert "\n" not in str(caught.value)
        assert not (tmp_path / name).exists()


def test_formats_are_chosen_by_name_or_ending() -> None:
    assert choose_format("", None) == "onnx"
    assert choose_format("", Path("x.pt2")) == "torch-export"
    assert choose_format("torch-export", Path("x")) == "torch-export"
    with pytest.raises(
        StageError, match="no format named 'onxx' to export to; did you mean 'onnx'"
    ):
        choose_format("onxx", None)
    with pytest.raises(StageError, match="no format named 'zzz' to export to; known: onnx, torch"):
        choose_format("zzz", None)
    with pytest.raises(StageError, match=r"'x\.tflite' ends like no format .* \.onnx or \.pt2"):
        choose_format("", Path("x.tflite"))


def test_what_cannot_be_written_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.onnx").write_bytes(b"")
    (tmp_path / "folder.onnx").mkdir()
    refusals = {
        ("there.onnx", "onnx", False): "already there; name another file or say --overwrite",
        ("folder.onnx", "onnx", False): "is a folder; name a file",
        ("no/x.onnx", "onnx", False): "there is no folder",
        ("x.pt2", "onnx", False): r"a file of onnx ends in \.onnx; 'x\.pt2' does not",
        ("x.pt2", "torch-export", True): "--int8 is for --format onnx, not for torch-export",
    }
    for (name, form, int8), told in refusals.items():
        with pytest.raises(StageError, match=told):
            check_output(tmp_path / name, form, int8=int8, overwrite=False)
    check_output(tmp_path / "there.onnx", "onnx", int8=True, overwrite=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        StageError, match="onnx needs onnx and onnxruntime and onnxscript; pip inst"
    ):
        check_output(tmp_path / "x.onnx", "onnx", int8=False, overwrite=False)
    check_output(tmp_path / "x.pt2", "torch-export", int8=False, overwrite=False)
    assert set(FORMATS) == {"onnx", "torch-export"}


def test_foreign_files_are_refused(of_images: Any, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="there is no file"):
        read_onnx(tmp_path / "x.onnx")
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(StageError, match="is no ONNX file that can be run"):
        read_onnx(tmp_path / "x.onnx")

    def changed(**texts: str) -> Path:
        model = onnx.load(of_images[1].path)
        for entry in model.metadata_props:
            entry.value = texts.get(entry.key, entry.value)
        path = tmp_path / "changed.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    with pytest.raises(StageError, match="has format 9 and this version reads 1; export the stud"):
        read_onnx(changed(format="9"))
    with pytest.raises(StageError, match="was not exported by this program"):
        read_onnx(changed(classes="["))
    escaping = read_onnx(changed(files=json.dumps({"../out.txt": "x"}))).facts
    with (
        pytest.raises(StageError, match="is no path inside a student's folder"),
        escaping.unpacked(),
    ):
        pass
    model = onnx.load(of_images[1].path)
    del model.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(StageError, match="was not exported by this program"):
        load_predictor(tmp_path / "bare.onnx")


def test_a_student_without_a_size_of_images_is_refused(tmp_path: Path) -> None:
    student = load(image_student(tmp_path / "run", image_size=0))
    student.preprocessing = {}
    with pytest.raises(StageError, match="nothing says how large the images of timm/resnet10t"):
        graph_of(student)


def test_a_tokenizer_that_is_not_inside_is_said(tmp_path: Path) -> None:
    folder = text_student(tmp_path / "run")
    shutil.rmtree(folder / "tokenizer")
    _, found = exported(folder, tmp_path / "x.pt2")
    assert found.notes == ("its tokenizer is not inside: take it from the student's folder",)
