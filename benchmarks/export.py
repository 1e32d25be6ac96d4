"""An exported student's time for one input, against the same student in PyTorch. Prints JSON.

Both run on the CPU with as many threads, without gradients, in turns; each round gives one ratio,
and the median of those counts. What the student is called with is prepared beforehand. Beside the
bars stands the same network in eight bits.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from distill.progress import SILENT
from distill.shipping import facts_of, graph_of, quantised, save_onnx
from distill.stages.export import export
from students import Blueprint, build, fresh_head, load, place, save_student

ROUNDS, CALLS = 25, 20
DIM, CLASSES = 128, 100
TOKENS = 16  # of a short question
IMAGES = Blueprint(
    name="timm/resnet10t",
    dim_out=DIM,
    modality="image",
    options={"channels": [16, 32, 64, 128], "stem_width": 16},
    image_size=64,
)
TEXTS = Blueprint(name="hf/bert", dim_out=DIM, modality="text", vocabulary=30522)
STUDENTS = {"image, 64 px": IMAGES, f"text, {TOKENS} tokens": TEXTS}


@dataclass(frozen=True)
class Sides:
    """The same student in PyTorch, in ONNX, and in ONNX with eight bits."""

    eager: Callable[[], Any]
    onnx: Callable[[], Any]
    int8: Callable[[], Any]


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def sides(blueprint: Blueprint, folder: Path) -> Sides:
    encoder, head = build(blueprint, seed=0), fresh_head(DIM, CLASSES, seed=1)
    save_student(
        folder / "student.safetensors",
        encoder,
        weight=head.weight,
        bias=head.bias,
        blueprint=blueprint,
        classes=tuple(map(str, range(CLASSES))),
        preprocessing={"max_length": 64},
        made_by={},
    )
    student = load(folder)
    export(student, "student", folder / "student.onnx", form="onnx", progress=SILENT)
    graph = graph_of(student)
    examples = [{name: value.numpy() for name, value in graph.example(17, seed=2).items()}]
    small = quantised(folder / "student.onnx", blueprint.modality, examples)
    save_onnx(small, facts_of(student, "student"), folder / "int8.onnx")
    prepared = one_input(blueprint)
    feed = {name: tensor.numpy() for name, tensor in prepared.items()}
    float32, int8 = (session(folder / name) for name in ("student.onnx", "int8.onnx"))
    network = place(student.network, "cpu")
    return Sides(
        eager=lambda: network(prepared),
        onnx=lambda: float32.run(["logits"], feed),
        int8=lambda: int8.run(["logits"], feed),
    )


def one_input(blueprint: Blueprint) -> dict[str, Tensor]:
    if blueprint.modality == "image":
        pixels = torch.randn(1, 3, blueprint.image_size, blueprint.image_size)
        return {"pixel_values": pixels.contiguous(memory_format=torch.channels_last)}
    ids = torch.randint(0, blueprint.vocabulary, (1, TOKENS))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begun) / CALLS


@torch.inference_mode()
def measured(found: Sides) -> dict[str, float]:
    calls = {"eager": found.eager, "onnx": found.onnx, "int8": found.int8}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 2):
        for name in sorted(calls, reverse=bool(turn % 2)):
            took = seconds(calls[name])
            if turn > 1:
                times[name].append(took)
    ratios = {
        f"{name} / eager": [a / b for a, b in zip(times[name], times["eager"], strict=True)]
        for name in ("onnx", "int8")
    }
    return {name: statistics.median(values) for name, values in (times | ratios).items()}


def main() -> None:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, blueprint) in enumerate(STUDENTS.items()):
            results[name] = measured(sides(blueprint, Path(folder) / str(number)))
    found = {
        "bars": [
            {
                "what": f"ONNX student / PyTorch eager, one input ({name}; time)",
                "measured": round(result["onnx / eager"], 3),
                "bar": 1.0,
                "better": "less",
            }
            for name, result in results.items()
        ],
        "microseconds": {
            name: {side: round(1e6 * result[side], 1) for side in ("eager", "onnx", "int8")}
            for name, result in results.items()
        },
        "int8 / eager (time)": {
            name: round(result["int8 / eager"], 3) for name, result in results.items()
        },
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
    }
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
