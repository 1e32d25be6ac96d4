"""Weights files for students: read without pickle, fitted whole or refused."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from students.errors import StudentWeightsError


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill the whole network, or its body where the file holds only that."""
    tensors = _read_weights(path)
    targets = [network]
    body = getattr(network, "body", None)
    if body is not None:
        targets += [body, *body.children()]
    fits = max(targets, key=lambda module: len(tensors.keys() & module.state_dict().keys()))
    expected = fits.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    shapes = sorted(
        f"{key} {tuple(tensors[key].shape)} for {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    )
    if missing or shapes:
        what = f"missing {missing[0]}" if missing else f"wrong shape {shapes[0]}"
        count = len(missing) + len(shapes)
        raise StudentWeightsError(
            f"{path} does not fit the student: {what}, {count} of {len(expected)} tensors in all"
        )
    fits.load_state_dict({key: tensors[key] for key in expected})


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise StudentWeightsError(f"there is no weights file {path}")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(str(path)))
        except SafetensorError as error:
            raise StudentWeightsError(f"{path} is not a sound safetensors file: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise StudentWeightsError(
            f"{path} holds more than tensors or is damaged, and is not read; "
            f"save the state dict as .safetensors"
        ) from error
    return dict(loaded.get("state_dict", loaded))
