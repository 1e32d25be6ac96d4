"""Prepared images in a quarter of their memory: each number as one of 256, bit for bit.

Images have 256 levels a channel, and most ways to prepare them (a crop, a resize of 8-bit pixels,
a normalisation) leave them that many. What 256 plain images become is the palette; a batch whose
numbers all stand in it is kept as their places.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

LEVELS = 256
KEY = "pixel_values"


@final
@dataclass(frozen=True)
class Palette:
    """The number that each level of each channel becomes, ascending along the levels."""

    table: Float32[Tensor, "channels levels"]

    def encode(self, images: Tensor) -> UInt8[Tensor, "rows height width channels"] | None:
        """Each number's place in its channel's table; None where one is in no place."""
        found = []
        for channel, levels in enumerate(self.table):
            values = images[:, channel].contiguous()
            places = torch.searchsorted(levels, values).clamp_(max=LEVELS - 1)
            if not torch.equal(levels[places], values):
                return None
            found.append(places.to(torch.uint8))
        return torch.stack(found, dim=-1)

    def decode(
        self, places: UInt8[Tensor, "rows height width channels"]
    ) -> Float32[Tensor, "rows channels height width"]:
        """The numbers themselves, channels last in memory."""
        starts = torch.arange(len(self.table), dtype=torch.int32) * LEVELS
        flat = (places.int() + starts).flatten()
        return self.table.flatten().index_select(0, flat).view(places.shape).permute(0, 3, 1, 2)


def palette_of(
    examples: Sequence[Any], prepare: Callable[[Sequence[Any]], Mapping[str, Tensor]]
) -> Palette | None:
    """The palette of a way to prepare images of the first one's size; None where it has none."""
    if not isinstance(examples[0], Image.Image):
        return None
    size, columns = examples[0].size, []
    for level in range(LEVELS):  # one at a time: photographs are large
        prepared = prepare([Image.new("RGB", size, (level, level, level))])
        images = prepared.get(KEY)
        if len(prepared) != 1 or images is None or images.ndim != 4:
            return None
        columns.append(images[0, :, 0, 0].clone())
    table = torch.stack(columns, dim=1)
    if table.dtype != torch.float32:
        return None
    rising = np.diff(table.numpy(), axis=1) > 0
    return Palette(table) if rising.all() else None
