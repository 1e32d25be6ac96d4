"""Checkpoints: whole or not at all, damage found, the one before kept."""

from pathlib import Path

import pytest
import torch

from students import CheckpointError, StudentError, plain_settings, same_settings
from students.checkpoint import (
    LAST,
    PREVIOUS,
    clear_scratch,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
    write_tensors,
)

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "count": torch.tensor(7),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "empty": torch.zeros(0, 4),
}


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert sorted(first) == sorted(second)
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert torch.equal(tensor, second[name]), name


def test_tensors_and_state_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.safetensors"
    write_tensors(path, TENSORS, {"epoch": 3, "loss": 0.1, "none": None})
    tensors, state = read_tensors(path)
    _same(tensors, TENSORS)
    assert state == {"epoch": 3, "loss": 0.1, "none": None}
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    write_tensors(paths[0], TENSORS, {"a": 1, "b": 2})
    write_tensors(paths[1], dict(reversed(TENSORS.items())), {"b": 2, "a": 1})
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_tensors_that_share_memory_or_are_strided_are_saved_by_value(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4)
    tied = {
        "a": base,
        "b": base,
        "c": base.to(memory_format=torch.channels_last),
        "d": base[..., 1],
    }
    write_tensors(tmp_path / "x", tied, {})
    _same(read_tensors(tmp_path / "x")[0], tied)


@pytest.mark.parametrize("at", [-1, -20, 100, 3, 0], ids=lambda at: f"byte {at}")
def test_a_flipped_bit_is_found(tmp_path: Path, at: int) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {"epoch": 1})
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        read_tensors(path)


def test_a_truncated_a_foreign_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_tensors(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not written by this program"):
        read_tensors(path)
    with pytest.raises(CheckpointError, match="there is no file"):
        read_tensors(tmp_path / "none")
    assert issubclass(CheckpointError, StudentError)


def test_there_is_no_checkpoint_before_the_first(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "nowhere") is None


def test_the_one_before_is_kept_and_used_when_the_last_is_damaged(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, tensors={"w": torch.tensor(epoch)}, state={"epoch": epoch})
    assert sorted(p.name for p in tmp_path.iterdir()) == [LAST, PREVIOUS]
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert (found.state, int(found.tensors["w"]), found.note) == ({"epoch": 3}, 3, "")
    (tmp_path / LAST).write_bytes(b"torn")
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert (found.state, int(found.tensors["w"])) == ({"epoch": 2}, 2)
    assert LAST in found.note


def test_killed_between_the_two_renames_the_previous_one_is_found(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tensors={}, state={"epoch": 1})
    (tmp_path / LAST).rename(tmp_path / PREVIOUS)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.state == {"epoch": 1}


def test_when_neither_can_be_read_the_message_says_what_to_delete(tmp_path: Path) -> None:
    (tmp_path / LAST).write_bytes(b"torn")
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"delete {tmp_path} to begin this training again"):
        load_checkpoint(tmp_path)


def test_what_an_interrupted_write_left_is_cleared(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tensors={}, state={})
    for name in (f".{LAST}.partial", f"..{LAST}.new.partial", f".{LAST}.new"):
        (tmp_path / name).write_bytes(b"half")
    clear_scratch(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [LAST]


def test_other_settings_are_refused_by_name() -> None:
    wanted = plain_settings({"rate": 0.1, "channels": (1, 2)})
    same_settings(wanted, {"rate": 0.1, "channels": [1, 2]}, what="it")
    expected = r"it was made with rate = 0\.2, now it is 0\.1; use another run folder"
    with pytest.raises(CheckpointError, match=expected):
        same_settings(wanted, {"rate": 0.2, "channels": [1, 2]}, what="it")
    with pytest.raises(CheckpointError, match="with no more, now it is 1"):
        same_settings({"more": 1}, {}, what="it")
    with pytest.raises(CheckpointError, match="with less = 1, now it is none"):
        same_settings({}, {"less": 1}, what="it")
