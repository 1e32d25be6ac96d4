"""A nested network as one file: its tensors, the record of its surgery, its path, its card.

``nested.safetensors`` is written whole or not at all and carries a digest of its tensors. ``fill``
makes any fresh network of the same kind take it; ``load`` builds a student by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from students.checkpoint import read_tensors, write_tensors
from students.encoders import Classifier
from students.errors import CheckpointError
from students.nested.budgets import NestedPath, attach
from students.nested.errors import NestedError
from students.nested.norms import NormStatistics
from students.nested.ranks import nested_layers
from students.nested.surgery import nest_like
from students.nested.surgery_record import Surgery, surgery_of
from students.saved import read_blueprint, unfilled

FILE = "nested.safetensors"
FORMAT = 1
_KIND = "nested network"
_NETWORK, _NORMS = "network.", "norms."


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SavedNested:
    """What a file holds. ``norms`` has the BatchNorm statistics of each point of the path."""

    tensors: Mapping[str, Tensor]
    surgery: Surgery
    path: NestedPath
    norms: tuple[NormStatistics, ...]
    card: Mapping[str, Any]
    source: Path


def save_nested(
    file: Path,
    network: nn.Module,
    *,
    path: NestedPath,
    card: Mapping[str, Any],
    norms: tuple[NormStatistics, ...] = (),
) -> None:
    """Write a network that carries the record of its surgery, whole.

    Without ``norms`` those that are attached to it are written. ``NestedError`` for one without a
    record, or with nested layers that its record does not know.
    """
    surgery = surgery_of(network)
    unknown = set(nested_layers(network)) ^ {each.name for each in surgery.layers}
    if unknown:
        raise NestedError(
            f"the record of the surgery does not fit this {type(network).__name__}, as of "
            f"{sorted(unknown)[0]!r}: nest the whole network that is saved, and no part of it"
        )
    if not norms and network.__dict__.get("nested_path") == path:
        norms = network.__dict__["nested_norms"]
    tensors = {f"{_NETWORK}{name}": tensor for name, tensor in network.state_dict().items()}
    for place, statistics in enumerate(norms):
        found = statistics.tensors().items()
        tensors |= {f"{_NORMS}{place}.{name}": tensor for name, tensor in found}
    state = {
        "format": FORMAT,
        "kind": _KIND,
        "surgery": surgery.to_json(),
        "path": path.to_json(),
        "norms": len(norms),
        "card": dict(card),
    }
    write_tensors(file, tensors, state)


def read_nested(path: Path | str) -> SavedNested:
    """Read a file, or that of a folder; ``CheckpointError`` for one that is damaged or foreign."""
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    tensors, state = read_tensors(file)
    if state.get("kind") != _KIND:
        raise CheckpointError(f"{file} holds no nested network")
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{file} has format {state.get('format')!r} and this version reads {FORMAT}; "
            f"nest the network again"
        )
    try:
        surgery, way = Surgery.from_json(state["surgery"]), NestedPath.from_json(state["path"])
    except NestedError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
    return SavedNested(
        tensors=_below(tensors, _NETWORK),
        surgery=surgery,
        path=way,
        norms=tuple(
            NormStatistics.from_tensors(_below(tensors, f"{_NORMS}{place}."))
            for place in range(state["norms"])
        ),
        card=state["card"],
        source=file,
    )


def fill(network: nn.Module, saved: SavedNested | Path | str) -> nn.Module:
    """Nest a fresh network as the saved one is, and give it its weights and its path, in place.

    Afterwards it is in evaluation, and ``set_budget`` works. ``OtherSurgeryError`` for a network of
    other layers, ``CheckpointError`` for other weights, and as ``read_nested``.
    """
    found = saved if isinstance(saved, SavedNested) else read_nested(Path(saved))
    nest_like(network, found.surgery)
    try:
        network.load_state_dict(found.tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {found.source} are of another network than this "
            f"{type(network).__name__}; nest the network again"
        ) from error
    attach(network, found.path, found.norms)
    return network.eval()


def load(folder: Path | str) -> Classifier:
    """Read a nested student: a network on which ``set_budget`` works, on the CPU, in evaluation.

    A teacher's network is built by whoever knows teachers: ``NestedError`` says how.
    """
    saved = read_nested(Path(folder))
    described = saved.card.get("blueprint")
    if described is None:
        raise NestedError(
            f"{saved.source} holds the network of a teacher, which is built elsewhere: take "
            f"distill.load_predictor({str(folder)!r}).student.network, or "
            f"students.nested.fill(network, {str(folder)!r}) with a network of your own"
        )
    network = unfilled(read_blueprint(described, saved.source), saved.card["classes"])
    fill(network, saved)
    return network


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
