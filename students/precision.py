"""In which numbers a step is computed: the autocast, and the scale float16 gradients need.

Weights, their average and the optimiser's moments are float32 always, and so are validation and
the loss; what is named here is the type of the products inside the network while it learns.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from students.errors import RecipeError


def working_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of ``precision``; "auto" is bfloat16 on a CUDA GPU and float32 elsewhere.

    Raises ``RecipeError`` for float16 elsewhere: it needs gradients scaled, which only CUDA does
    fast, and bfloat16 does without.
    """
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if precision == "float16" and device.type != "cuda":
        raise RecipeError(
            f"precision float16 needs a CUDA GPU, and this training runs on {device.type}; "
            f"choose bfloat16 or float32"
        )
    found: torch.dtype = getattr(torch, precision)
    return found


@contextmanager
def autocast(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Run products in this type, as a forward pass does; nothing is changed for float32.

    On a CPU attention then runs as products. Torch's fused one has a slow gradient in bfloat16: it
    takes 4.7 times as long with 12 tokens, 2.2 with 65, 1.1 with 197 and 0.7 with 512
    (`benchmarks.precision`).
    """
    if dtype == torch.float32:
        yield
        return
    on_cpu = device.type == "cpu"
    with (
        sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext(),
        torch.autocast(device.type, dtype),
    ):
        yield


def gradient_scaler(dtype: torch.dtype, device: torch.device) -> torch.amp.GradScaler | None:
    """Make what keeps float16 gradients from vanishing; none for the other types."""
    return torch.amp.GradScaler(device.type) if dtype == torch.float16 else None
