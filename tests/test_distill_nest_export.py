"""A nested network at one budget, as a file that knows nothing of nesting."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import distill
from distill.nested_students import load_nested_student, load_plain_student
from distill.predictor import load_predictor
from distill.progress import SILENT
from distill.shipping import graph_of, read_facts, read_onnx, run_onnx
from distill.stages.export import export
from students.nested import NestedError, RankError, nested_layers, read_nested
from tests.cli_examples import Command, refused
from tests.nest_examples import TEXTS, nested, text_subject

QUICK = ("--epochs", "1", "--points", "2", "--calibration", "16", "--include", "*.conv2")
STUDENT = "resnet10t-gaussian-k8-s0"
BUDGET = 0.9


@pytest.fixture
def nested_run(run_copy: Path, call: Command) -> Path:
    words = ("nest", "--run", run_copy, *QUICK, "--student", STUDENT, "--gauges", "--name", "any")
    code, _, err = call(*words)
    assert code == 0, err
    return run_copy


def test_a_file_of_one_budget_answers_as_the_network_does_there(
    nested_run: Path, call: Command, tmp_path: Path
) -> None:
    folder = nested_run / "nested" / "any"
    words = ("export", "--run", nested_run, "--student", "any")
    code, out, err = call(*words, "--budget", BUDGET)
    assert code == 0, err
    assert "of dense FLOPs, and a little more as it has no gauges" in out
    file = folder / f"student@{BUDGET}.onnx"
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(5)]
    here, there = (load_predictor(folder, budget=b) for b in (BUDGET, 1.0))
    found, wanted, others = (p.embed(images) for p in (load_predictor(file), here, there))
    largest = np.abs(wanted).max()
    assert np.abs(found - wanted).max() <= 1e-4 * largest
    assert np.abs(found - others).max() > 1e-3 * largest  # it is that budget's
    assert load_predictor(file).predict(images)[0] == here.predict(images)[0]
    facts = read_onnx(file).facts
    assert facts.made_by["budget"] <= BUDGET
    assert facts.classes == here.classes

    small, full = tmp_path / "small.onnx", tmp_path / "full.onnx"
    for budget, path in (("0.81", small), ("1", full)):
        code, _, err = call(*words, "--budget", budget, "--output", path)
        assert code == 0, err
    assert small.stat().st_size < full.stat().st_size
    assert not [node.name for node in onnx.load(str(file)).graph.node if "Gather" in node.op_type]

    program = tmp_path / "program.pt2"
    code, _, err = call(*words, "--budget", BUDGET, "--output", program)
    assert code == 0, err
    assert read_facts(program).made_by["budget"] == facts.made_by["budget"]
    code, out, err = call(*words, "--budget", BUDGET, "--int8")
    assert code == 0, err
    assert (folder / f"student@{BUDGET}.int8.onnx").is_file()


def test_a_network_without_gauges_costs_in_onnx_what_it_costs_here(
    run_copy: Path, call: Command
) -> None:
    code, _, err = call("nest", "--run", run_copy, *QUICK, "--student", STUDENT, "--name", "bare")
    assert code == 0, err
    code, out, err = call("export", "--run", run_copy, "--student", "bare", "--budget", BUDGET)
    assert code == 0, err
    assert "of dense FLOPs" in out
    assert "as it has no gauges" not in out


def test_a_budget_is_said_for_what_has_several_and_for_nothing_else(
    nested_run: Path, call: Command
) -> None:
    words = ("export", "--run", nested_run, "--student")
    refused(call(*words, "any"), "any is nested and has many budgets; say one with --budget")
    refused(call(*words, STUDENT, "--budget", "0.5"), f"{STUDENT} is not nested")
    refused(call(*words, "any", "--budget", "1.5"), "in (0, 1], got 1.5")
    refused(call(*words, "any", "--budget", "0.001"), "is below what this network can reach")
    assert not list((nested_run / "nested" / "any").glob("*.onnx"))
    assert distill.export(nested_run, student="any", budget=BUDGET).student == "any"
    refused(call(*words, "any", "--budget", BUDGET), "student@0.9.onnx")


def test_a_text_teacher_of_one_budget_is_exported_with_its_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "nested"
    nested(text_subject(tmp_path), folder, data=TEXTS, include=("mlp", "attention"), epochs=1)
    budget = round((1 + read_nested(folder).path.floor) / 2, 3)
    plain = load_plain_student(folder, budget=budget, gauges=False)
    with pytest.raises((NestedError, RankError)):
        nested_layers(plain.network)
    file = tmp_path / "student.onnx"
    found = export(plain, "tiny", file, form="onnx", progress=SILENT)
    assert found.inputs == ("input_ids", "attention_mask")
    assert found.largest_difference < 1e-4
    same = load_nested_student(folder, budget=budget)
    graph = graph_of(plain)
    for batch, (rows, logits) in zip(graph.batches(), run_onnx(file, graph), strict=True):
        with torch.inference_mode():
            expected = same(batch).numpy()
        assert np.abs(expected - logits).max() <= 1e-4 * np.abs(expected).max()
        assert rows.shape == (len(logits), plain.dim_out)
    texts = list(TEXTS.splits["validation"].inputs)[:4]
    shares = load_predictor(file).probabilities(texts)
    np.testing.assert_allclose(
        shares, load_predictor(folder, budget=budget).probabilities(texts), atol=1e-5
    )
