"""A traced student as a program of ``torch.export``: a .pt2 file, run without this project."""

import io
import json
from pathlib import Path

import numpy as np
import torch

from distill.shipping.facts import Facts
from distill.shipping.graphs import Graph, traced
from distill.shipping.onnx_files import quietly

FACTS = "facts.json"  # among the file's extra files


def save_program(graph: Graph, facts: Facts, path: Path) -> None:
    """Trace and write it, with its facts in an extra file."""
    text = json.dumps(facts.to_texts(), indent=1, sort_keys=True, ensure_ascii=False)
    written = io.BytesIO()  # torch's own writer ends the process where a disk is full
    with quietly():
        torch.export.save(traced(graph), written, extra_files={FACTS: text})
    path.write_bytes(written.getbuffer())


def run_program(path: Path, graph: Graph) -> list[tuple[np.ndarray, ...]]:
    """Read it back and call it at every batch that is checked."""
    with quietly(), torch.inference_mode():
        module = torch.export.load(str(path)).module()
        called = [module(*(batch[name] for name in graph.inputs)) for batch in graph.batches()]
    return [tuple(found.numpy() for found in results) for results in called]


def read_facts(path: Path) -> Facts:
    """Read what the file says of itself."""
    extra = {FACTS: ""}
    with quietly():
        torch.export.load(str(path), extra_files=extra)
    return Facts.from_texts(json.loads(extra[FACTS] or "{}"), path)
