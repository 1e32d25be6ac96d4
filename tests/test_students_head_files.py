"""The file of a head: what it holds survives the disk, and files that are not one are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from students import FittedHead, HeadError, StudentError, load_head, save_head

META = {"classes": ["a", "b <i>", "ç"], "trained_on": "gaussian-k4-s0"}
HEAD = FittedHead(
    weight=np.arange(12, dtype=np.float32).reshape(3, 4),
    bias=np.array([1, 2, 3], np.float32),
    l2=0.01,
    validation_accuracy=0.75,
    converged=True,
)


def test_a_head_survives_the_disk(tmp_path: Path) -> None:
    save_head(tmp_path / "x" / "head.safetensors", HEAD, META)
    head, meta = load_head(tmp_path / "x" / "head.safetensors", dim=4, classes=META["classes"])
    np.testing.assert_array_equal(head.weight, HEAD.weight)
    np.testing.assert_array_equal(head.bias, HEAD.bias)
    assert (head.l2, head.validation_accuracy, head.converged) == (0.01, 0.75, True)
    assert meta == META
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["head.safetensors"]


def test_the_bytes_of_a_head_file_are_stable(tmp_path: Path) -> None:
    for name in "ab":
        save_head(tmp_path / name, HEAD, dict(reversed(META.items())) if name == "b" else META)
    first, second = ((tmp_path / name).read_bytes() for name in "ab")
    assert first == second


def test_a_head_must_name_its_classes(tmp_path: Path) -> None:
    for names in (["a", "b"], "abc", None):
        with pytest.raises(HeadError, match=r"meta\['classes'\] must name the 3 classes, got"):
            save_head(tmp_path / "head", HEAD, {"classes": names})
    assert not (tmp_path / "head").exists()


def refused(path: Path, **wanted: object) -> str:
    with pytest.raises(HeadError) as caught:
        load_head(path, **wanted)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, StudentError)
    return str(caught.value).replace(str(path), "FILE")


def test_another_head_than_the_one_needed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, HEAD, META)
    assert refused(path, dim=8) == (
        "the head in FILE reads 4 features, not 8; train a head on the store it is to be used with"
    )
    assert refused(path, classes=["a", "b <i>"]) == (
        "the head in FILE tells other classes apart: 3 instead of 2"
    )
    assert refused(path, classes=["a", "b <i>", "c"]) == (
        "the head in FILE tells other classes apart: class 2 is 'ç', not 'c'"
    )


def test_files_that_are_no_head_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    assert refused(path) == "there is no head at FILE; run train-head first"
    save_head(path, HEAD, META)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert refused(path).startswith("FILE does not hold a head that can be read")
    path.write_bytes(b"")
    assert refused(path).startswith("FILE does not hold a head that can be read")
    save_file({"weight": HEAD.weight}, path)
    assert refused(path).startswith("FILE does not hold a head that can be read")


def test_cards_that_do_not_fit_the_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    card = {"format": 1, "l2": 1, "validation_accuracy": 1, "converged": True, "meta": META}

    def write(bias: np.ndarray, **changes: object) -> None:
        metadata = {"head": json.dumps({**card, **changes})}
        save_file({"weight": HEAD.weight, "bias": bias}, path, metadata=metadata)

    write(HEAD.bias[:2])
    assert refused(path) == (
        "FILE is damaged: weight (3, 4), bias (2,) and 3 class names do not belong together; "
        "train the head again"
    )
    write(HEAD.bias, format=9)
    assert refused(path) == "FILE holds a head of format 9; train the head again"
    write(HEAD.bias, meta={})
    assert refused(path) == "FILE holds a head without 'classes'; train the head again"
