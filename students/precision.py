"""In which numbers a step is computed: the autocast, and the scale float16 gradients need.

Weights, their average and the optimiser's moments are float32 always, and so are validation and
the loss; what is named here is the type of the products inside the network while it learns.
"""

from contextlib import AbstractContextManager

import torch

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


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None] | None:
    """Make the context of a forward pass, to be entered again and again; none for float32."""
    if dtype == torch.float32:
        return None
    return torch.autocast(device.type, dtype)


def gradient_scaler(dtype: torch.dtype, device: torch.device) -> torch.amp.GradScaler | None:
    """Make what keeps float16 gradients from vanishing; none for the other types."""
    return torch.amp.GradScaler(device.type) if dtype == torch.float16 else None
