"""Teachers that were taught, saved and loaded again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from teachers import (
    NetworkTeacher,
    TeacherError,
    WeightsError,
    load_teacher,
    save_teacher,
)
from tests.teachers_examples import bert_folder, images, small


def taught(folder: Path, **settings: Any) -> tuple[NetworkTeacher, nn.Linear]:
    """A teacher whose weights are not the random ones, saved with a head of three classes."""
    teacher = small(seed=5, **settings)
    head = nn.Linear(teacher.card.dim, 3)
    with torch.no_grad():
        for parameter in teacher.module.parameters():
            parameter.mul_(1.01)
    save_teacher(folder, teacher, ("x", "y", "z"), head)
    return teacher, head


def test_a_saved_teacher_is_the_same_teacher(tmp_path: Path) -> None:
    teacher, head = taught(tmp_path / "t", options={"stem_width": 16})
    back = small(tmp_path / "t", image_size=0, classes=("z", "x", "y"))
    prepared = teacher.prepare(images())
    expected = teacher.embed(prepared).features
    outputs = back.embed(back.prepare(images()))
    np.testing.assert_array_equal(outputs.features, expected)
    with torch.inference_mode():
        logits = head(torch.from_numpy(expected))[:, [2, 0, 1]]
    assert outputs.logits is not None
    np.testing.assert_allclose(outputs.logits, logits.numpy(), rtol=1e-5, atol=1e-6)
    assert back.card.classes == ("z", "x", "y")
    assert back.card.options == {"stem_width": 16}
    assert back.card.preprocessing == teacher.card.preprocessing
    assert {path.name for path in (tmp_path / "t").iterdir()} == {
        "teacher.safetensors",
        "teacher.json",
    }


def test_a_saved_text_teacher_is_the_same_teacher(tmp_path: Path) -> None:
    name = f"hf/{bert_folder(tmp_path / 'bert')}"
    teacher = load_teacher(name, pooling="cls")
    save_teacher(tmp_path / "t", teacher, (), None)
    back = load_teacher(name, weights=str(tmp_path / "t"), pooling="cls")
    assert back.card == teacher.card
    with pytest.raises(WeightsError, match="was taught with pooling cls, now it is mean"):
        load_teacher(name, weights=str(tmp_path / "t"))
    with pytest.raises(WeightsError, match="preprocessing max_length = 32, now it is 9"):
        load_teacher(name, weights=str(tmp_path / "t"), pooling="cls", max_length=9)


def test_another_layer_of_a_saved_teacher_drops_the_head_it_was_taught_with(tmp_path: Path) -> None:
    taught(tmp_path / "t")
    back = small(tmp_path / "t", layer="layer2")
    assert back.head is None
    assert any("it reads another layer" in note for note in back.card.notes)


def test_a_saved_teacher_refuses_what_it_was_not_taught_with(tmp_path: Path) -> None:
    taught(tmp_path / "t")
    with pytest.raises(WeightsError, match="holds timm/resnet10t, not timm/resnet18"):
        small(tmp_path / "t", "timm/resnet18")
    with pytest.raises(WeightsError, match=r"preprocessing crop_pct = .*, now it is 0.5"):
        small(tmp_path / "t", preprocessing={"crop_pct": 0.5})
    with pytest.raises(TeacherError, match="the head has 3 classes, 2 names given"):
        save_teacher(tmp_path / "u", small(), ("a", "b"), nn.Linear(512, 3))


def test_a_half_written_or_changed_teacher_is_never_loaded(tmp_path: Path) -> None:
    taught(tmp_path / "t")
    tensors = tmp_path / "t" / "teacher.safetensors"
    sound = tensors.read_bytes()
    tensors.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"teacher.safetensors is missing or damaged"):
        small(tmp_path / "t")
    tensors.write_bytes(sound)
    small(tmp_path / "t")
    card = tmp_path / "t" / "teacher.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "format": 99}))
    with pytest.raises(WeightsError, match="has format 99, this version reads 1"):
        small(tmp_path / "t")
    card.unlink()
    with pytest.raises(WeightsError, match=r"holds no finished teacher \(no teacher.json\)"):
        small(tmp_path / "t")
