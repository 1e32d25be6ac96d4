"""Untrained students as training would leave them: a folder with the file, the record, a tokenizer.

They stand in a run folder that says which teacher and data they are of.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from students import Blueprint, FittedHead, build, fresh_head, save_student
from tests.teachers_examples import WORDS, tokenizer

CLASSES = ("red", "green", "<b>blue</b> | *x*")
TIMM = {
    "made_by": "timm",
    "input_size": [3, 32, 32],
    "image_size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "crop_pct": 1.0,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "pairs": False,
}
IMAGES = Blueprint(
    name="timm/resnet10t",
    dim_out=5,
    modality="image",
    options={"channels": [4, 8, 8, 8], "stem_width": 4},
    image_size=32,
)
TEXTS = Blueprint(
    name="hf/bert",
    dim_out=5,
    modality="text",
    options={
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
    vocabulary=4 + len(WORDS),
)
SCORE = {
    "rows": 200,
    "accuracy": 0.8125,
    "interval": {"low": 0.7525, "high": 0.8608},
    "macro_f1": 0.81,
    "worst_class": "<b>blue</b> | *x*",
    "worst_class_accuracy": 0.625,
}
RECORD = {
    "made_from": "0123",
    "name": "tiny-gaussian-k5-s0",
    "network": "timm/resnet10t",
    "method": "subspace",
    "target": "gaussian-k5-s0",
    "dim_out": 5,
    "classes": 3,
    "parameters": 5000,
    "teacher_parameters": 250000,
    "epochs": 4,
    "best_epoch": 3,
    "validation_accuracy": 0.75,
    "test": SCORE,
    "difference": {
        "against": "full",
        "value": -0.0125,
        "interval": {"low": -0.03, "high": 0.005},
    },
    "agreement": 0.9,
    "seed": 7,
    "seconds": 1.5,
    "notes": ["saw <script>alert(1)</script> clean inputs"],
}
EXTRACTED = {
    "teacher": "timm/resnet50",
    "dataset": "imagefolder:photos {{ 1 }}",
    "data_note": "digits are not photographs",
    "notes": ["limited to 120 examples"],
}


def image_student(root: Path, *, prefixes: tuple[int, ...] = (), **changes: Any) -> Path:
    """Write a student of images into a run at ``root``; its folder."""
    return _written(root, replace(IMAGES, **changes), TIMM, prefixes)


def text_student(root: Path, *, pairs: bool = False, **changes: Any) -> Path:
    """Write a student of texts into a run at ``root``; its folder."""
    folder = _written(root, replace(TEXTS, **changes), {"max_length": 16, "pairs": pairs})
    tokenizer().save_pretrained(str(folder / "tokenizer"))
    return folder


def _written(
    root: Path,
    blueprint: Blueprint,
    preprocessing: dict[str, Any],
    prefixes: tuple[int, ...] = (),
) -> Path:
    folder = root / "students" / str(RECORD["name"])
    encoder = build(blueprint, seed=3)
    head = fresh_head(encoder.dim_out, len(CLASSES), seed=4)
    save_student(
        folder / "student.safetensors",
        encoder,
        weight=head.weight,
        bias=head.bias,
        blueprint=blueprint,
        classes=CLASSES,
        preprocessing=preprocessing,
        made_by={"seed": 7, "dataset": "abc", "classes": list(CLASSES)},
        prefixes={width: _narrow(width) for width in prefixes},
    )
    narrow = [{"dim_out": width, "test": SCORE | {"accuracy": 0.55}} for width in prefixes]
    (folder / "student.json").write_text(json.dumps(RECORD | {"prefixes": narrow}))
    (root / "extracted.json").write_text(json.dumps(EXTRACTED))
    return folder


def _narrow(width: int) -> FittedHead:
    rng = np.random.default_rng(width)
    return FittedHead(
        weight=rng.standard_normal((len(CLASSES), width)).astype(np.float32),
        bias=np.zeros(len(CLASSES), dtype=np.float32),
        l2=1e-3,
        validation_accuracy=0.5,
        converged=True,
    )
