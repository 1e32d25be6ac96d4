"""Weights: files and folders in, refusals that run nothing and name what is wrong."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from teachers import (
    WeightsError,
)
from teachers.weights import digest
from tests.teachers_examples import images, network, small


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return network().state_dict()


@pytest.fixture
def weights(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file(state, tmp_path / "five.safetensors")
    return tmp_path / "five.safetensors"


def test_a_file_gives_the_network_and_a_head_for_as_many_classes_as_it_has(weights: Path) -> None:
    teacher = small(weights)
    prepared = teacher.prepare(images())
    outputs = teacher.embed(prepared)
    with torch.inference_mode():
        expected = network()(prepared["pixel_values"])
    assert teacher.card.classes == ("0", "1", "2", "3", "4")
    assert outputs.logits is not None
    np.testing.assert_allclose(outputs.logits, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_digest_is_of_the_tensors_and_not_of_the_file(
    weights: Path, state: dict[str, torch.Tensor]
) -> None:
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}}, weights.parent / "a.pth"
    )
    assert small(weights).card.weights == small(weights.parent / "a.pth").card.weights
    state = dict(state)
    state["fc.bias"] = state["fc.bias"] + 1
    save_file(state, weights.parent / "b.safetensors")
    assert small(weights.parent / "b.safetensors").card.weights != small(weights).card.weights


def test_the_digest_sees_names_types_shapes_and_which_part_a_tensor_is_of() -> None:
    one, two = nn.Linear(2, 3), nn.Linear(2, 3)
    two.load_state_dict(one.state_dict())
    named = nn.Sequential(one)
    flat = nn.Module()
    flat.register_buffer("weight", one.weight.detach().reshape(3, 2).flatten())
    square = nn.Module()
    square.register_buffer("weight", one.weight.detach())
    half = nn.Linear(2, 3).to(torch.bfloat16)
    assert digest(one) == digest(two)
    assert len({digest(m) for m in (one, named, flat, square, half)}) == 5
    assert len({digest(one, None), digest(None, one), digest(one, two)}) == 3
    expected = hashlib.sha256(b"0/weight:torch.float32:(1,)" + b"\x00\x00\x80\x3f").hexdigest()
    single = nn.Module()
    single.register_buffer("weight", torch.ones(1))
    assert digest(single) == f"sha256:{expected}"


def test_a_head_without_class_names_is_dropped_where_the_data_has_names(weights: Path) -> None:
    teacher = small(weights, classes=("a", "b", "c", "d", "e"))
    assert teacher.head is None
    assert teacher.card.classes == ()
    assert "its 5 classes have no names" in teacher.card.notes[0]
    assert teacher.embed(teacher.prepare(images())).logits is None


def test_imagenet_classes_are_found_by_name(tmp_path: Path) -> None:
    whole = network(1000)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    classes = ("Goldfish", "tinca_tinca", "hammerhead")  # rows 1, 0 and 4
    teacher = small(tmp_path / "w.safetensors", classes=classes)
    prepared = teacher.prepare(images())
    with torch.inference_mode():
        expected = whole(prepared["pixel_values"])[:, [1, 0, 4]]
    logits = teacher.embed(prepared).logits
    assert teacher.card.classes == classes
    assert logits is not None
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-5)
    unknown = small(tmp_path / "w.safetensors", classes=("goldfish", "unicorn", "yeti"))
    assert unknown.head is None
    assert "it does not know 'unicorn' and 1 more" in unknown.card.notes[0]
    double = small(tmp_path / "w.safetensors", classes=("crane", "goldfish"))
    assert double.head is None  # ImageNet has two cranes: a bird and a machine


def test_torchvision_files_with_another_number_of_classes_are_read(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    whole = resnet18(num_classes=3).eval()
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    teacher = small(tmp_path / "w.pth", "torchvision/resnet18")
    prepared = teacher.prepare(images())
    with torch.inference_mode():
        expected = whole(prepared["pixel_values"])
    logits = teacher.embed(prepared).logits
    assert logits is not None
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_classifier_that_is_not_linear_in_the_feature_is_dropped(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1(num_classes=3).state_dict(), tmp_path / "w.pth")
    teacher = small(tmp_path / "w.pth", "torchvision/squeezenet1_1", image_size=64)
    assert teacher.head is None
    assert "it is not linear in the feature" in teacher.card.notes[0]


def test_position_embeddings_are_resized_to_the_image_size_asked_for(tmp_path: Path) -> None:
    vit = network(0, name="vit_tiny_patch16_224")
    save_file(vit.state_dict(), tmp_path / "w.safetensors")
    teacher = small(tmp_path / "w.safetensors", "timm/vit_tiny_patch16_224", image_size=48)
    assert teacher.embed(teacher.prepare(images())).features.shape == (2, 192)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (os.environ["EVIL_PATH"],))


def test_a_pickle_that_needs_more_than_tensors_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVIL_PATH", str(tmp_path / "ran"))
    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "plain.bin"):
        with pytest.raises(WeightsError, match="is a pickle that holds more than tensors"):
            small(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"not weights", "a.safetensors is not a sound safetensors file"),
        ("a.pth", b"not weights", "a.pth is a pickle that holds more than tensors, or is damaged"),
        ("a.pth", b"", "a.pth is not a sound weights file"),
    ],
)
def test_a_damaged_file_is_told(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        small(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_name_keys_and_shapes(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    wrong = dict(state)
    wrong["layer1.0.conv1.weight"] = torch.zeros(3, 3)
    del wrong["bn1.weight"]
    wrong["extra"] = torch.zeros(1)
    save_file(wrong, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        small(tmp_path / "w.safetensors")
    message = str(caught.value)
    assert "layer1.0.conv1.weight is (3, 3), the network has (64, 64, 3, 3)" in message
    assert "1 missing (bn1.weight)" in message
    assert "1 unexpected (extra)" in message
    assert "\n" not in message
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit torchvision/resnet18: it has no fc\.w"):
        small(tmp_path / "b.safetensors", "torchvision/resnet18")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file .*nowhere.pth"):
        small(tmp_path / "nowhere.pth")


OFFLINE = """
import sys, time
sys.modules["tensorflow"] = None
from teachers import WeightsError, load_teacher
load_teacher("timm/resnet10t", weights="random", image_size=32)
for name in ("timm/resnet50", "torchvision/resnet50", "hf/bert-base-uncased"):
    begun = time.perf_counter()
    try:
        load_teacher(name)
    except WeightsError as error:
        print(f"{time.perf_counter() - begun:.1f} {error}")
"""


@pytest.mark.parametrize("told", ["1", "0"])
def test_weights_that_are_nowhere_fail_at_once_and_say_what_to_give(
    told: str, tmp_path: Path
) -> None:
    """With HF_HUB_OFFLINE, and on a machine that merely has no network (no retries)."""
    if told == "0" and _hub_resolves():
        pytest.skip("this machine has a network")
    environment = {**os.environ, "HF_HUB_OFFLINE": told, "HF_HOME": str(tmp_path)}
    environment["TORCH_HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout + done.stderr
    for line, name, hint in zip(
        lines,
        ("timm/resnet50", "torchvision/resnet50", "hf/bert-base-uncased"),
        ("--weights FILE.safetensors", "--weights FILE.safetensors", "hf/FOLDER"),
        strict=True,
    ):
        seconds, _, message = line.partition(" ")
        assert message.startswith(f"the weights of {name} are not on this machine")
        assert hint in message
        assert float(seconds) < 15
    assert "Traceback" not in done.stderr


def _hub_resolves() -> bool:
    import socket

    from huggingface_hub import constants

    try:
        socket.getaddrinfo(constants.ENDPOINT.partition("//")[2], None)
    except OSError:
        return False
    return True
