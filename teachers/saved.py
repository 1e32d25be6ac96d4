"""Teachers that were taught here: a folder with the tensors and a card, whole or not at all.

``teacher.safetensors`` holds the network and the head; ``teacher.json`` is written last and
names the digest of the tensors, so that a half-written folder is never taken for a teacher.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from teachers.backbone import Backbone
from teachers.base import Teacher
from teachers.errors import TeacherError, WeightsError, one_line
from teachers.weights import State, load_state

FORMAT = 1
TENSORS = "teacher.safetensors"
CARD = "teacher.json"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a folder written by ``save_teacher`` holds."""

    name: str
    classes: tuple[str, ...]
    pooling: str
    layer: str
    image_size: int  # 0 for text
    options: dict[str, Any]
    preprocessing: dict[str, Any]
    network: State
    head: State


def save_teacher(
    folder: Path, teacher: Teacher, classes: Sequence[str], head: nn.Linear | None
) -> None:
    """Write backbone, head and card; ``load_teacher(name, weights=folder)`` reads them back."""
    from safetensors.torch import save_file

    if head is not None and head.out_features != len(classes):
        raise TeacherError(f"the head has {head.out_features} classes, {len(classes)} names given")
    state = {f"network.{k}": _plain(v) for k, v in bare(teacher.module).state_dict().items()}
    if head is not None:
        state |= {f"head.{k}": _plain(v) for k, v in head.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)  # until the new one is there, nothing is
    scratch = folder / f".{TENSORS}.partial"
    save_file(state, scratch)
    card = _card(teacher, classes if head is not None else (), _sha256(scratch))
    scratch.replace(folder / TENSORS)
    _write(folder / CARD, json.dumps(card, indent=2, sort_keys=True) + "\n")


def bare(module: nn.Module) -> nn.Module:
    """The network inside a backbone; a module of one's own is its own network."""
    return module.network if isinstance(module, Backbone) else module


def _card(teacher: Teacher, classes: Sequence[str], sha256: str) -> dict[str, Any]:
    card = teacher.card
    return {
        "format": FORMAT,
        "name": card.name,
        "classes": list(classes),
        "pooling": card.pooling,
        "layer": card.layer,
        "image_size": int(card.preprocessing.get("image_size", 0)),
        "options": dict(card.options),
        "preprocessing": dict(card.preprocessing),
        "sha256": sha256,
    }


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU copy of its own: safetensors takes neither shared nor strided memory."""
    return tensor.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_text(text)
    scratch.replace(path)


def read_saved(folder: Path, name: str) -> Saved:
    """Read a folder back; ``WeightsError`` if it is unfinished, damaged or another teacher's."""
    from safetensors.torch import load_file

    card = _read_card(folder)
    if card["name"] != name:
        raise WeightsError(f"{folder} holds {card['name']}, not {name}: change one of the two")
    tensors = folder / TENSORS
    if not tensors.is_file() or _sha256(tensors) != card["sha256"]:
        raise WeightsError(f"{tensors} is missing or damaged; teach the teacher again")
    state = load_file(tensors)
    part = {
        key: {k.removeprefix(f"{key}."): v for k, v in state.items() if k.startswith(f"{key}.")}
        for key in ("network", "head")
    }
    return Saved(
        name=name,
        classes=tuple(card["classes"]),
        pooling=card["pooling"],
        layer=card["layer"],
        image_size=card["image_size"],
        options=card["options"],
        preprocessing=card["preprocessing"],
        network=part["network"],
        head=part["head"],
    )


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    if not path.is_file():
        raise WeightsError(
            f"{folder} holds no finished teacher (no {CARD}); for a folder of transformers "
            "give it as the name, hf/FOLDER"
        )
    try:
        card: dict[str, Any] = json.loads(path.read_text())
        known = card["format"] == FORMAT
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is not a teacher's card: {one_line(error)}") from error
    if not known:
        raise WeightsError(f"{path} has format {card['format']}, this version reads {FORMAT}")
    return card


def fill(network: nn.Module, saved: Saved, source: str) -> nn.Linear | None:
    """Put the saved tensors into a freshly built network; returns the saved head."""
    load_state(network, saved.network, source=source)
    if not saved.head:
        return None
    rows, dim = saved.head["weight"].shape
    head = nn.Linear(dim, rows, bias="bias" in saved.head)
    head.load_state_dict(saved.head)
    return head
