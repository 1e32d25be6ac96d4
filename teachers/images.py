"""From PIL images to one float32 batch; what can be changed about it, checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from teachers.base import Prepared
from teachers.errors import TeacherError, nearest

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class PrepareImages:
    """Applies one transform to each image and stacks: ``pixel_values`` (rows, 3, h, w)."""

    transform: Callable[[Image.Image], torch.Tensor]

    def __call__(self, inputs: Sequence[Any]) -> Prepared:
        """Prepare one batch on the CPU."""
        return {"pixel_values": torch.stack([self.transform(image) for image in _rgb(inputs)])}


@dataclass(frozen=True)
class PrepareFrames:
    """Resizes and crops each image, then scales and normalises the batch as one.

    The same bits as torchvision's ``ToTensor`` and ``Normalize`` image by image, but one pass
    over the images' own layout, which is also the one that convolutions are fastest in.
    """

    frame: Callable[[Image.Image], Image.Image]  # to the size the network reads
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, inputs: Sequence[Any]) -> Prepared:
        """Prepare one batch on the CPU: float32 (rows, 3, h, w), channels last in memory."""
        frames = np.stack([np.asarray(self.frame(image)) for image in _rgb(inputs)])
        rows, height, width, channels = frames.shape
        # whole lines of an image against mean and std repeated: three at a time would be slow
        mean, std = (
            torch.tensor(v, dtype=torch.float32).repeat(width) for v in (self.mean, self.std)
        )
        lines = torch.from_numpy(frames.reshape(rows, height, width * channels))
        normal = lines.to(torch.float32).div_(255).sub_(mean).div_(std)
        return {"pixel_values": normal.view(rows, height, width, channels).permute(0, 3, 1, 2)}


def _rgb(inputs: Sequence[Any]) -> list[Image.Image]:
    """Three channels of each image; ``TeacherError`` for what is no image."""
    for row, image in enumerate(inputs):
        if not isinstance(image, Image.Image):
            kind = type(image).__name__
            raise TeacherError(f"an image teacher reads images, input {row} is {kind}")
    return [image if image.mode == "RGB" else image.convert("RGB") for image in inputs]


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
    if key == "resize_size" and not (isinstance(value, int) and value > 0):
        raise TeacherError(f"preprocessing resize_size must be a number of pixels, got {value!r}")
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
