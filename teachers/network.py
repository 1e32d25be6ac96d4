"""The one concrete teacher: a backbone, a head, a way to prepare inputs, a device."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from teachers.base import Outputs, Prepare, Prepared, TeacherCard
from teachers.devices import DTYPES
from teachers.text import text_length


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkTeacher:
    """A frozen network as a ``Teacher``; ``module`` and ``head`` can still be fine-tuned."""

    card: TeacherCard
    module: nn.Module
    head: nn.Linear | None
    prepare: Prepare
    device: str
    dtype: str  # computed in; features are float32 whatever this is

    def lengths(self, inputs: Sequence[Any]) -> list[int]:
        """Characters of each text; images, which all become one size, are not even looked at."""
        if self.card.modality == "image":
            return [1] * len(inputs)
        return [text_length(text) for text in inputs]

    def embed(self, prepared: Prepared) -> Outputs:
        """Features, and logits where there is a head, as float32 on the CPU."""
        for part in (self.module, self.head):
            # a BatchNorm layer left in train mode would move its statistics, and dropout would act
            if part is not None and any(inner.training for inner in part.modules()):
                part.eval()
        with torch.inference_mode(), self._autocast():
            features = self.module(self._placed(prepared))
            logits = None if self.head is None else self.head(features)
        return Outputs(features=_array(features), logits=None if logits is None else _array(logits))

    def _placed(self, prepared: Prepared) -> Prepared:
        """On the device; images channels last, which convolutions are fastest in."""
        moved = {k: v.to(self.device, non_blocking=True) for k, v in prepared.items()}
        pixels = moved.get("pixel_values")
        if pixels is not None and pixels.ndim == 4:
            moved["pixel_values"] = pixels.contiguous(memory_format=torch.channels_last)
        return moved

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.partition(":")[0], dtype=DTYPES[self.dtype])


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
