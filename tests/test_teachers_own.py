"""Networks of one's own, and the devices that teachers run on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from teachers import (
    DeviceError,
    NetworkTeacher,
    TeacherError,
    UnknownTeacherError,
    load_teacher,
    make_teacher,
    resolve_device,
    resolve_dtype,
    save_teacher,
)
from tests.teachers_examples import images, small


def own_network(width: int = 4) -> NetworkTeacher:
    """What a user's ``module:factory`` looks like."""
    from teachers.images import PrepareImages

    layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, width))
    return make_teacher(
        layers,
        name="tests.test_teachers_own:own_network",
        prepare=PrepareImages(_pixels),
        head=nn.Linear(width, 2),
        classes=("no", "yes"),
    )


def _pixels(image: Image.Image) -> torch.Tensor:
    resized = image.resize((32, 32))
    return torch.from_numpy(np.asarray(resized, dtype=np.float32)).permute(2, 0, 1) / 255


def not_a_teacher() -> int:
    return 3


def test_a_network_of_ones_own_comes_from_a_factory(tmp_path: Path) -> None:
    name = "tests.test_teachers_own:own_network"
    teacher = load_teacher(name, options={"width": 6}, classes=("yes", "no"), seed=2)
    assert teacher.card.dim == 6
    assert teacher.card.classes == ("yes", "no")
    save_teacher(tmp_path / "t", teacher, teacher.card.classes, teacher.head)
    back = load_teacher(name, weights=str(tmp_path / "t"), options={"width": 6}, seed=9)
    assert back.card.weights == teacher.card.weights
    prepared = teacher.prepare(images())
    np.testing.assert_array_equal(back.embed(prepared).logits, teacher.embed(prepared).logits)
    save_file(teacher.module.get_submodule("network").state_dict(), tmp_path / "w.safetensors")
    filled = load_teacher(name, weights=str(tmp_path / "w.safetensors"), options={"width": 6})
    np.testing.assert_array_equal(filled.embed(prepared).features, teacher.embed(prepared).features)
    assert isinstance(load_file(tmp_path / "w.safetensors"), dict)


def test_a_factory_that_gives_something_else_is_told() -> None:
    with pytest.raises(TeacherError, match="returned int, which is not a Teacher"):
        load_teacher("tests.test_teachers_own:not_a_teacher")
    with pytest.raises(UnknownTeacherError, match="its folder must be on PYTHONPATH"):
        load_teacher("tests.test_teachers_own:nothing")
    with pytest.raises(TeacherError, match="does not take these options"):
        load_teacher("tests.test_teachers_own:own_network", options={"depth": 1})


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:x", "cud", "mps:1", ""])
def test_a_device_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(DeviceError):
        resolve_device(name)


def test_devices_that_are_not_there_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="torch sees no CUDA GPU; use cpu or auto"):
        small(device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(DeviceError, match="this machine has cuda:0 to cuda:1"):
        resolve_device("cuda:2")


def test_precision_follows_the_device_unless_told() -> None:
    assert [resolve_dtype("", d) for d in ("cpu", "cuda:1", "mps")] == [
        "float32",
        "bfloat16",
        "float32",
    ]
    assert resolve_dtype("float32", "cuda") == "float32"
    with pytest.raises(DeviceError, match="no precision named 'int8'; known: float32, bfloat16"):
        resolve_dtype("int8", "cpu")


def test_bfloat16_agrees_with_float32_to_its_own_tolerance() -> None:
    exact, fast = small(), small(dtype="bfloat16")
    prepared = exact.prepare(images())
    a, b = exact.embed(prepared).features, fast.embed(prepared).features
    assert b.dtype == np.float32
    assert 1e-5 < np.abs(a - b).max() / np.abs(a).max() < 2e-2
