"""From PIL images to one float32 batch; what can be changed about it, checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from teachers.base import Prepared
from teachers.errors import TeacherError, nearest

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class PrepareImages:
    """Applies one transform to each image and stacks: ``pixel_values`` (rows, 3, h, w)."""

    transform: Callable[[Image.Image], torch.Tensor]

    def __call__(self, inputs: Sequence[Image.Image]) -> Prepared:
        """Prepare one batch on the CPU."""
        given: Sequence[object] = inputs  # a caller can be wrong
        for row, image in enumerate(given):
            if not isinstance(image, Image.Image):
                kind = type(image).__name__
                raise TeacherError(f"an image teacher reads images, input {row} is {kind}")
        rgb = (image if image.mode == "RGB" else image.convert("RGB") for image in inputs)
        return {"pixel_values": torch.stack([self.transform(image) for image in rgb])}


def read_pixels(network: torch.nn.Module, prepared: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """How image networks are called."""
    output: torch.Tensor = network(prepared["pixel_values"])
    return output


def check_preprocessing(given: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Overrides with plain, checked values: ``mean``/``std`` one number or three, and so on."""
    for key in given:
        if key not in known:
            hint = nearest(key, known) or f"; known: {', '.join(known)}"
            raise TeacherError(f"{key!r} is not a setting of this teacher's preprocessing{hint}")
    return {key: _checked(key, value) for key, value in given.items()}


def _checked(key: str, value: Any) -> Any:
    if key in {"mean", "std"}:
        return _per_channel(key, value)
    if key == "crop_pct" and not (_number(value) and 0 < value <= 1):
        raise TeacherError(f"preprocessing crop_pct must be in (0, 1], got {value!r}")
    if key == "interpolation" and value not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise TeacherError(f"preprocessing interpolation must be one of {known}, got {value!r}")
    if key == "crop_mode" and value not in {"center", "squash", "border"}:
        raise TeacherError(
            f"preprocessing crop_mode must be center, squash or border, got {value!r}"
        )
    return value


def _per_channel(key: str, value: Any) -> tuple[float, ...]:
    values = [value] * 3 if _number(value) else value
    good = isinstance(values, (list, tuple)) and len(values) == 3 and all(map(_number, values))
    if not good or (key == "std" and min(values) <= 0):
        least = " above 0" if key == "std" else ""
        raise TeacherError(f"preprocessing {key} must be one number or three{least}, got {value!r}")
    return tuple(float(v) for v in values)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
