"""The one file of a linear head: safetensors with weight and bias, and a card of JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from students.errors import HeadError
from students.heads import FittedHead

FORMAT = 1
CARD = frozenset({"format", "l2", "validation_accuracy", "converged", "meta"})


def save_head(path: Path, head: FittedHead, meta: Mapping[str, Any]) -> None:
    """Write one safetensors file, whole or not at all.

    ``meta`` is what JSON can hold: ``classes``, the list of class names in the order of the
    weight's rows, and whatever tells what the head was trained on.
    """
    names = meta.get("classes")
    if not isinstance(names, (list, tuple)) or len(names) != len(head.weight):
        raise HeadError(f"meta['classes'] must name the {len(head.weight)} classes, got {names!r}")
    from safetensors.numpy import save

    card = {
        "format": FORMAT,
        "l2": head.l2,
        "validation_accuracy": head.validation_accuracy,
        "converged": head.converged,
        "meta": dict(meta),
    }
    # one metadata key: safetensors writes several in an order that changes from run to run
    data = save(
        {"weight": np.ascontiguousarray(head.weight), "bias": head.bias},
        metadata={"head": json.dumps(card, sort_keys=True)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_bytes(data)
    scratch.replace(path)


def load_head(
    path: Path, *, dim: int = 0, classes: Sequence[str] = ()
) -> tuple[FittedHead, dict[str, Any]]:
    """Head in a file and its ``meta``.

    ``dim`` and ``classes``, where given, are what the caller needs it to read and to tell apart;
    another head, and a file that is damaged or holds something else, raise ``HeadError``.
    """
    tensors, card = _read(path)
    weight, bias, meta = tensors["weight"], tensors["bias"], card["meta"]
    names = tuple(meta["classes"])
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or len(names) != len(weight):
        raise HeadError(
            f"{path} is damaged: weight {weight.shape}, bias {bias.shape} and {len(names)} class "
            "names do not belong together; train the head again"
        )
    if dim and weight.shape[1] != dim:
        raise HeadError(
            f"the head in {path} reads {weight.shape[1]} features, not {dim}; "
            "train a head on the store it is to be used with"
        )
    if classes and names != tuple(classes):
        raise HeadError(f"the head in {path} tells other classes apart: {_unlike(names, classes)}")
    return (
        FittedHead(
            weight=weight.astype(np.float32, copy=False),
            bias=bias.astype(np.float32, copy=False),
            l2=float(card["l2"]),
            validation_accuracy=float(card["validation_accuracy"]),
            converged=bool(card["converged"]),
        ),
        meta,
    )


def _unlike(here: Sequence[str], wanted: Sequence[str]) -> str:
    """First thing in which two lists of class names differ."""
    if len(here) != len(wanted):
        return f"{len(here)} instead of {len(wanted)}"
    at = next(i for i, (a, b) in enumerate(zip(here, wanted, strict=True)) if a != b)
    return f"class {at} is {here[at]!r}, not {wanted[at]!r}"


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and card of a head file, as they stand there."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise HeadError(f"there is no head at {path}; run train-head first")
    try:
        with safe_open(path, framework="numpy") as file:
            card = json.loads((file.metadata() or {})["head"])
            tensors = {name: file.get_tensor(name) for name in ("weight", "bias")}
        missing = sorted(CARD - set(card)) or sorted({"classes"} - set(card["meta"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise HeadError(f"{path} does not hold a head that can be read: {error}") from error
    if missing or card["format"] != FORMAT:
        what = f"without {missing[0]!r}" if missing else f"of format {card['format']}"
        raise HeadError(f"{path} holds a head {what}; train the head again")
    return tensors, card
