"""``export``: a student as ONNX or as a torch.export program, checked before the file is kept.

The file is written under a hidden name, called at several batch sizes and held against the
student; only then it gets its own name. ``int8`` also measures what the fewer bits cost.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from distill.allocator import memory_kept
from distill.datasets import Split
from distill.errors import StageError
from distill.findings import ExportedStudent, Quantised
from distill.metrics import accuracy, difference
from distill.predictor import Predictor
from distill.progress import Progress
from distill.shipping import (
    BATCHES,
    Facts,
    Graph,
    OnnxStudent,
    Shipped,
    add_facts,
    check,
    facts_of,
    graph_of,
    quantised,
    read_onnx,
    run_onnx,
    run_program,
    save_onnx,
    save_program,
    to_onnx,
)
from distill.whole import whole
from students import LoaderFeed, forward_rows

CALIBRATION = 256  # rows that set the ranges of activations
BATCH = 32


@memory_kept()
def export(
    student: Shipped,
    name: str,
    path: Path,
    *,
    form: str,
    progress: Progress,
) -> ExportedStudent:
    """Write the student called ``name`` to ``path`` in float32; ``StageError`` if it does not hold.

    ``form`` is one of ``FORMATS``. What was there is written over.
    """
    graph, facts = graph_of(student), facts_of(student, name)
    with whole(path) as scratch, progress.task("export", total=2, unit="steps") as advance:
        if form == "onnx":
            save_onnx(to_onnx(graph), facts, scratch)
            advance(1)
            found = run_onnx(scratch, graph)
        else:
            save_program(graph, facts, scratch)
            advance(1)
            found = run_program(scratch, graph)
        worst = check(graph, found)
        advance(1)
    return _record(graph, facts, path, form, worst, None)


@memory_kept()
def export_int8(
    predictor: Predictor, path: Path, *, train: Split, validation: Split, progress: Progress
) -> ExportedStudent:
    """Write it as ONNX with eight-bit weights, and measure them on the validation rows.

    The float32 file is checked first, and both are run on every row. Ranges of an image network's
    inner numbers are those of some training rows: what sets them is not measured.
    """
    labels, student = validation.labels, predictor.student
    if labels is None or not len(validation):
        raise StageError("the validation split has no labels: nothing tells what int8 costs")
    if isinstance(student, OnnxStudent):
        raise StageError(f"{predictor.name} is exported already; name the student it was made of")
    graph, facts = graph_of(student), facts_of(student, predictor.name)
    with whole(path) as scratch, progress.task("export", total=4, unit="steps") as advance:
        save_onnx(to_onnx(graph), facts, scratch)
        worst = check(graph, run_onnx(scratch, graph))
        advance(1)
        before = _predicted(predictor, scratch, validation)
        advance(1)
        examples = _examples(predictor, graph, train) if student.modality == "image" else []
        save_onnx(quantised(scratch, student.modality, examples), facts, scratch)
        advance(1)
        after = _predicted(predictor, scratch, validation)
        cost = Quantised(
            rows=len(labels),
            float32=accuracy(labels, before),
            int8=accuracy(labels, after),
            difference=difference(labels, after, before, name="float32"),
            agreement=accuracy(before, after),
            calibration_rows=sum(len(batch["pixel_values"]) for batch in examples),
        )
        facts = replace(facts, precision="int8", validation=cost.to_json())
        add_facts(scratch, facts)
        advance(1)
    return _record(graph, facts, path, "onnx", worst, cost)


def _predicted(predictor: Predictor, file: Path, split: Split) -> Int64[np.ndarray, " rows"]:
    feed = LoaderFeed(split.inputs, predictor.prepare, {})
    logits = forward_rows(read_onnx(file), feed, batch_size=BATCH)
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def _examples(predictor: Predictor, graph: Graph, split: Split) -> list[dict[str, np.ndarray]]:
    """Prepare some rows, drawn by a fixed seed, in batches."""
    count = min(CALIBRATION, len(split))
    rows = np.sort(np.random.default_rng(0).choice(len(split), count, replace=False))
    found = []
    for start in range(0, count, BATCH):
        prepared = predictor.prepare([split.inputs[int(row)] for row in rows[start:][:BATCH]])
        found.append({name: prepared[name].numpy() for name in graph.inputs})
    return found


def _record(
    graph: Graph, facts: Facts, path: Path, form: str, worst: float, cost: Quantised | None
) -> ExportedStudent:
    notes = []
    if "budget" in facts.made_by:
        told = form == "onnx" and facts.made_by.get("gauges", True)
        more = ", and a little more as it has no gauges" if told else ""
        notes.append(f"it is fixed at {facts.made_by['budget']:.1%} of dense FLOPs{more}")
    if facts.modality == "text" and "tokenizer/tokenizer.json" not in facts.files:
        notes.append("its tokenizer is not inside: take it from the student's folder")
    if not facts.preprocessing.get("made_by") and facts.modality == "image":
        notes.append("images are prepared in a way of your own, which the file cannot describe")
    return ExportedStudent(
        student=facts.student,
        path=str(path),
        format=form,
        precision=facts.precision,
        bytes=path.stat().st_size,
        inputs=graph.inputs,
        outputs=graph.outputs,
        dim_out=facts.embedding,
        classes=len(facts.classes),
        batches=BATCHES,
        largest_difference=worst,
        quantised=cost,
        notes=tuple(notes),
    )
