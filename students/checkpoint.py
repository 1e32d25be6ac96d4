"""Checkpoints: named tensors and a JSON state in one safetensors file, whole or not at all.

A file is written beside its place and then renamed over it, so that a reader sees the old one
or the new one. Both halves stand in one file: a rename cannot part them. The file carries a
digest of its tensors, and the checkpoint before the last is kept, so that damage costs one step
back and never goes unnoticed. No pickle is read or written.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from students.errors import CheckpointError

LAST = "last.safetensors"
PREVIOUS = "previous.safetensors"
_KEY = "state"  # one metadata key only: safetensors orders several at random


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was saved, and a note where the newest file could not be read."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    note: str = ""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write both into one file, atomically. Equal content gives equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # cloned: safetensors refuses tensors that share memory, as tied weights do
    plain = {name: _plain(tensor) for name, tensor in tensors.items()}
    saved = json.dumps({"digest": digest_of(plain), "state": dict(state)}, sort_keys=True)
    scratch = path.with_name(f".{path.name}.partial")
    save_file(plain, str(scratch), metadata={_KEY: saved})
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the state; ``CheckpointError`` when missing, foreign or damaged."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            saved = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    if saved is None:
        raise CheckpointError(f"{path} was not written by this program: it holds no state")
    try:
        content = json.loads(saved)
        digest, state = content["digest"], content["state"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its state cannot be read") from error
    if digest != digest_of(tensors):
        raise CheckpointError(f"{path} is damaged: its tensors are not those that were written")
    return tensors, state


def save_checkpoint(
    folder: Path, *, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Make this the last checkpoint of ``folder`` and keep the one before it."""
    last = folder / LAST
    newest = folder / f".{LAST}.new"
    write_tensors(newest, tensors, state)
    if last.exists():
        last.replace(folder / PREVIOUS)
    newest.replace(last)  # killed between the two: the previous one is found and used


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest sound checkpoint; none when there never was one.

    Falls back to the previous one, with a note, when the last is missing or damaged; raises
    ``CheckpointError`` when neither can be read.
    """
    paths = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    trouble: list[str] = []
    for path in paths:
        try:
            tensors, state = read_tensors(path)
        except CheckpointError as error:
            trouble.append(str(error))
        else:
            return Checkpoint(tensors=tensors, state=state, note="; ".join(trouble))
    if trouble:
        raise CheckpointError(f"{'; '.join(trouble)}; delete {folder} to begin this training again")
    return None


def clear_scratch(folder: Path) -> None:
    """Delete what an interrupted write left behind."""
    for path in (*folder.glob(".*.partial"), *folder.glob(".*.new")):
        path.unlink()


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn settings into what JSON gives back, to be compared with those of a file."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return plain


def same_settings(
    wanted: Mapping[str, Any],
    found: Mapping[str, Any],
    *,
    what: str,
    instead: str = "use another run folder",
) -> None:
    """Refuse what was made with other settings; ``CheckpointError`` names the first of them.

    ``instead`` says where there is room for both.
    """
    for key in sorted({*wanted, *found}):
        now, then = wanted.get(key), found.get(key)
        if now != then:
            with_what = f"{key} = {_short(then)}" if key in found else f"no {key}"
            raise CheckpointError(
                f"{what} was made with {with_what}, now it is {_short(now)}; "
                f"{instead}, or begin again with --overwrite"
            )


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = _plain(tensors[name])
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{sha.hexdigest()}"


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, in row-major order, alone in its memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()
