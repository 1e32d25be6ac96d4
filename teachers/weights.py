"""State dicts: read from a file without running anything in it, fit into a network, digested."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from teachers.errors import WeightsError, one_line

State = dict[str, torch.Tensor]
WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema")
WORDS = ("pretrained", "random")  # instead of a file
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def read_state(path: Path) -> State:
    """Tensors of a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, on the CPU.

    A pickle that holds more than tensors and plain values is refused, never run.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; known words are pretrained and random")
    state = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: State = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a sound safetensors file: {one_line(error)}") from error
    return state


def _pickled(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, for files refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is a pickle that holds more than tensors, or is damaged: it is not loaded, "
            "as that could run code; save the state dict alone, best as .safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is not a sound weights file: {one_line(error)}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no state dict (names and tensors)")
    state = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not state:
        raise WeightsError(f"{path} holds no tensors under their names")
    return state


def misfit(network: nn.Module, state: Mapping[str, torch.Tensor]) -> str:
    """What keeps a state dict from fitting: keys and shapes, in one line; "" when it fits.

    BatchNorm's step counters may be missing: they change no output in eval mode.
    """
    wanted = network.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    shapes = [
        f"{k} is {tuple(state[k].shape)}, the network has {tuple(wanted[k].shape)}"
        for k in wanted
        if k in state and wanted[k].shape != state[k].shape
    ]
    told = [
        f"{len(shapes)} shapes differ ({_some(shapes)})" if shapes else "",
        f"{len(missing)} missing ({_some(missing)})" if missing else "",
        f"{len(unexpected)} unexpected ({_some(unexpected)})" if unexpected else "",
    ]
    return ", ".join(part for part in told if part)


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def load_state(network: nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Put a state dict into a network; ``WeightsError`` names the keys and shapes that differ."""
    wrong = misfit(network, state)
    if wrong:
        raise WeightsError(f"{source} does not fit {type(network).__name__}: {wrong}")
    network.load_state_dict(dict(state), strict=False)


def digest(*modules: nn.Module | None) -> str:
    """``sha256:…`` over name, dtype, shape and bytes of every tensor, in order of name."""
    seen = hashlib.sha256()
    for number, module in enumerate(modules):
        state = {} if module is None else module.state_dict()
        for name, tensor in sorted(state.items()):
            plain = tensor.detach().cpu().contiguous()
            seen.update(f"{number}/{name}:{plain.dtype}:{tuple(plain.shape)}".encode())
            # bfloat16 has no NumPy twin: its bytes are taken as they are
            seen.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{seen.hexdigest()}"
