"""Where a teacher runs, and in which precision. Foreign knowledge: torch's device names."""

import torch

from teachers.errors import DeviceError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(name: str) -> str:
    """A concrete device: "auto" takes CUDA, then Apple's, then the CPU. ``DeviceError`` otherwise.

    "cuda" stays "cuda" (the current device); "cuda:1" must exist.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if (name != "cpu" and kind not in {"cuda", "mps"}) or (index and not index.isdecimal()):
        raise DeviceError(f"no device named {name!r}; known: auto, cpu, cuda, cuda:0, mps")
    if kind == "cuda":
        _check_cuda(name, index)
    if kind == "mps" and not (name == "mps" and torch.backends.mps.is_available()):
        raise DeviceError(f"device {name!r} is not on this machine; use cpu or auto")
    return name


def _check_cuda(name: str, index: str) -> None:
    if not torch.cuda.is_available():
        raise DeviceError(f"device {name!r} is not there: torch sees no CUDA GPU; use cpu or auto")
    count = torch.cuda.device_count()
    if index and int(index) >= count:
        raise DeviceError(
            f"device {name!r} is not there: this machine has cuda:0 to cuda:{count - 1}"
        )


def resolve_dtype(name: str, device: str) -> str:
    """The precision a network computes in: "" takes what the device is best at.

    CUDA is best at bfloat16 (autocast); CPUs are slower in it, Apple's support is partial.
    """
    if name == "":
        return "bfloat16" if device.startswith("cuda") else "float32"
    if name not in DTYPES:
        raise DeviceError(f"no precision named {name!r}; known: {', '.join(DTYPES)}")
    return name
