"""A finished student as one file: network, head, and the card that says how to use them.

The card stands in the file's metadata, so weights and card cannot be mixed up; the file is
written whole or not at all and carries a digest of its tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from students.blueprint import Blueprint
from students.checkpoint import read_tensors, write_tensors
from students.encoders import Classifier, Encoder, build, fresh_head
from students.errors import CheckpointError, StudentError
from students.heads import FittedHead

FORMAT = 1
_KIND = "student"
_PREFIX = "prefix."


@dataclass(frozen=True, kw_only=True)
class SavedStudent:
    """A student read back: in eval mode, on the CPU."""

    network: Classifier
    blueprint: Blueprint
    classes: tuple[str, ...]
    preprocessing: Mapping[str, Any]  # plain values: how inputs become a prepared batch
    made_by: Mapping[str, Any]  # flat settings and digests of what it was trained on
    prefixes: Mapping[int, nn.Linear]  # heads on the first so many of its numbers


def save_student(
    path: Path,
    encoder: Encoder,
    *,
    weight: Tensor,
    bias: Tensor,
    blueprint: Blueprint,
    classes: tuple[str, ...],
    preprocessing: Mapping[str, Any],
    made_by: Mapping[str, Any],
    prefixes: Mapping[int, FittedHead] = MappingProxyType({}),
) -> None:
    """Write the encoder and its linear head (classes, dim_out) to ``path``.

    ``prefixes`` are heads on its first numbers, by how many of them they read.
    """
    if weight.shape != (len(classes), encoder.dim_out):
        raise StudentError(
            f"a head of shape {tuple(weight.shape)} does not fit {len(classes)} classes and a "
            f"student of width {encoder.dim_out}"
        )
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    card = {
        "format": FORMAT,
        "kind": _KIND,
        "blueprint": asdict(blueprint),
        "classes": list(classes),
        "preprocessing": dict(preprocessing),
        "made_by": dict(made_by),
    }
    for width, head in prefixes.items():
        tensors[f"{_PREFIX}{width}.weight"] = torch.from_numpy(head.weight)
        tensors[f"{_PREFIX}{width}.bias"] = torch.from_numpy(head.bias)
    write_tensors(path, {**tensors, "head.weight": weight, "head.bias": bias}, card)


def load_student(path: Path) -> SavedStudent:
    """Read ``save_student``'s file; ``CheckpointError`` for one that is damaged or foreign."""
    tensors, card = read_tensors(path)
    if card.get("kind") != _KIND:
        raise CheckpointError(f"{path} holds no student")
    if card.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {card.get('format')!r} and this version reads {FORMAT}; "
            f"train the student again"
        )
    blueprint = read_blueprint(card["blueprint"], path)
    classes = tuple(card["classes"])
    network = unfilled(blueprint, classes)
    prefixes = take_prefixes(tensors)
    fill(network, tensors, blueprint, path)
    return SavedStudent(
        network=network,
        blueprint=blueprint,
        classes=classes,
        preprocessing=card["preprocessing"],
        made_by=card["made_by"],
        prefixes=prefixes,
    )


def read_card(path: Path) -> dict[str, Any]:
    """Read the card alone, checked against the tensors' digest."""
    _, card = read_tensors(path)
    return card


def carried_head(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Make a frozen linear layer with these weights."""
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return head.requires_grad_(False)


def take_prefixes(tensors: dict[str, Tensor]) -> dict[int, nn.Linear]:
    """Heads by width, narrowest first, from ``prefix.<width>.weight`` and ``.bias``.

    Their tensors are taken out of ``tensors``, which leaves those of the network.
    """
    narrow = {name: tensors.pop(name) for name in sorted(tensors) if name.startswith(_PREFIX)}
    widths = sorted({int(name.split(".")[1]) for name in narrow})
    return {
        width: carried_head(*(narrow[f"{_PREFIX}{width}.{part}"] for part in ("weight", "bias")))
        for width in widths
    }


def read_blueprint(data: Any, path: Path) -> Blueprint:
    """Rebuild the blueprint in a card; ``CheckpointError`` for one of other keys."""
    known = {entry.name for entry in fields(Blueprint)}
    if not isinstance(data, Mapping) or set(data) != known:
        raise CheckpointError(f"the card in {path} does not describe a student network")
    return Blueprint(**data)


def unfilled(blueprint: Blueprint, classes: Sequence[str]) -> Classifier:
    """Build the network of a student, with whatever weights."""
    encoder = build(blueprint)
    return Classifier(encoder, fresh_head(encoder.dim_out, len(classes), seed=0))


def fill(
    network: Classifier, tensors: Mapping[str, Tensor], blueprint: Blueprint, path: Path
) -> None:
    """Give the network its weights, all of them, and put it into eval mode."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {path} do not fit the network {blueprint.name} that its card names; "
            f"train the student again"
        ) from error
    network.eval()
