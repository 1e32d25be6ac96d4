"""Maps and moments as files: safetensors with one JSON card, whole or not at all.

A data-independent map is what its card says: kind, widths, seed and the digest of what they draw.
Loading draws it anew and compares. A data-aware map and moments stand in the file as tensors. Each
card carries the SHA-256 of itself and of every tensor.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from projections.base import Projection, ProjectionError, RandomProjection
from projections.fitted import FittedProjection, Solution
from projections.kinds import kind_of, make_projection
from projections.moments import Moments

FORMAT = 1
KEY = "projections"  # the one metadata key: safetensors writes several in an order that changes

Tensors = Mapping[str, Shaped[np.ndarray, "..."]]


def save_projection(path: Path, projection: Projection) -> None:
    """Write a map. ``UnknownKindError`` for one that is not of the table of kinds."""
    kind_of(projection.kind)
    card: dict[str, Any] = {"said": projection.describe()}
    tensors: dict[str, np.ndarray] = {}
    if isinstance(projection, FittedProjection):
        card |= {"rank": projection.rank_, "facts": projection.facts_}
        tensors = {"matrix": projection.matrix, "mean": projection.mean}
        tensors["strengths"] = projection.strengths_
    _write(path, "projection", card, tensors)


def load_projection(path: Path) -> Projection:
    """Read a map, drawn anew if it is data-independent. It says of itself what was saved.

    ``ProjectionError`` for a file that is missing, damaged or holds something else, and where this
    version draws another map from the same seed.
    """
    card, tensors = _read(path, "projection")
    said = card["said"]
    estimator = kind_of(said["kind"]).estimator
    found: Projection
    if issubclass(estimator, RandomProjection):
        names = ("kind", "dim_in", "dim_out", "seed")
        found = make_projection(**{name: said[name] for name in names})
    else:
        solution = Solution(
            matrix=tensors["matrix"],
            strengths=tensors["strengths"],
            rank=card["rank"],
            facts=card["facts"],
        )
        found = estimator.of_parts(tensors["mean"], solution, seed=said["seed"])
    if found.describe() != said:
        raise ProjectionError(
            f"the {said['kind']} map in {path} is another one in this version of the program; "
            "make it again"
        )
    return found


def save_moments(path: Path, moments: Moments) -> None:
    """Write moments. Equal ones give equal bytes."""
    tensors = {"counts": moments.counts, "means": moments.means, "within": moments.within}
    _write(path, "moments", {}, tensors)


def load_moments(path: Path) -> Moments:
    """Read moments; ``ProjectionError`` for a file that is missing, damaged or something else."""
    _, tensors = _read(path, "moments")
    return Moments(counts=tensors["counts"], means=tensors["means"], within=tensors["within"])


def _write(path: Path, what: str, card: Mapping[str, Any], tensors: Tensors) -> None:
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    sealed = {"format": FORMAT, "holds": what, **card}
    text = json.dumps({**sealed, "digest": _digest(sealed, plain)}, sort_keys=True)
    data = save(plain, metadata={KEY: text})
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _read(path: Path, what: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Card and tensors of a sound file that holds ``what``."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ProjectionError(f"there is no file of {what} at {path}; make it first")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        card = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise ProjectionError(f"{path} cannot be read, make it again: {error}") from error
    if not isinstance(card, dict) or card.get("holds") != what:
        raise ProjectionError(f"{path} holds no {what} of this program, but something else")
    if card.get("format") != FORMAT:
        raise ProjectionError(
            f"{path} is of format {card.get('format')}, not {FORMAT}; make it again"
        )
    if card.pop("digest", None) != _digest(card, tensors):
        raise ProjectionError(f"{path} is damaged: it is not what was written; make it again")
    return card, tensors


def _digest(card: Mapping[str, Any], tensors: Tensors) -> str:
    """SHA-256 over the card and, in the order of their names, types, shapes and bytes."""
    sha = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name}|{tensor.dtype.str}|{tensor.shape}|".encode())
        sha.update(np.ascontiguousarray(tensor).data)
    return f"sha256:{sha.hexdigest()}"
