"""A traced student as an ONNX file. All that is known of torch's exporter and of onnx is here."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.errors import StageError, first_line
from distill.shipping.facts import Facts
from distill.shipping.graphs import TRACED, Graph
from distill.shipping.onnx_students import read_onnx

OPSET = 18  # what all runtimes of the last years read


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep what exporters print, log and warn of themselves from a user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def to_onnx(graph: Graph) -> Any:
    """Trace the student into an ``onnx.ModelProto`` whose axes have names."""
    example = graph.example(TRACED)
    shapes = {name: dict(enumerate(graph.axes)) for name in graph.inputs}
    try:
        with quietly():
            program: Any = torch.onnx.export(
                graph.module,
                tuple(example[name] for name in graph.inputs),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever an own network does that cannot be traced
        raise StageError(
            f"{graph.student.blueprint.name} cannot be exported to ONNX: {first_line(error)}"
        ) from error
    _make_room(program, graph.outputs)
    return program.model_proto


def _make_room(program: Any, names: tuple[str, ...]) -> None:
    """Rename inner values that have an output's name, as transformers' ``embedding`` does."""
    results = {id(value) for value in program.model.graph.outputs}
    for node in program.model.graph:
        for value in node.outputs:
            if value.name in names and id(value) not in results:
                value.name = f"{value.name}_inside"


def save_onnx(model: Any, facts: Facts, path: Path) -> None:
    """Write the model with its facts as ``metadata_props``."""
    import onnx

    model.producer_name = "distill"
    model.doc_string = (
        "embedding: the student's numbers, in the space of its targets; logits: of the classes in "
        "the metadata; logits_<width>: of a head on the first so many numbers"
    )
    del model.metadata_props[:]
    for name, text in facts.to_texts().items():
        model.metadata_props.add(key=name, value=text)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def add_facts(path: Path, facts: Facts) -> None:
    """Say these facts in the file instead of those that it says."""
    import onnx

    save_onnx(onnx.load(str(path)), facts, path)


def run_onnx(path: Path, graph: Graph) -> list[tuple[np.ndarray, ...]]:
    """Call the file at every batch that is checked."""
    student = read_onnx(path)
    return [student.results(graph.outputs, batch) for batch in graph.batches()]
