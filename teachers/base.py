"""The Teacher protocol, its promises, and the small records it speaks in.

A teacher is frozen: it is always in eval mode when it embeds, its BatchNorm statistics never
change, and equal inputs give equal rows whatever else is in the batch (CPU float32: within 1e-5
of the row's largest value; bfloat16: within 2e-2).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32

Prepared = dict[str, torch.Tensor]
"""One batch a network can read: ``pixel_values`` for images, the tokenizer's tensors for text."""

Prepare = Callable[[Sequence[Any]], Prepared]
Modality = Literal["image", "text"]


@dataclass(frozen=True, kw_only=True)
class TeacherCard:
    """What a teacher is: everything that decides which rows it gives."""

    name: str
    modality: Modality
    dim: int
    classes: tuple[str, ...]  # of the logits; () gives none
    weights: str  # sha256 of every tensor, head included
    preprocessing: Mapping[str, Any]  # plain values, as recorded in a store
    layer: str  # "" is the penultimate feature
    pooling: str
    parameters: int  # of the backbone
    options: Mapping[str, Any]
    notes: tuple[str, ...] = ()  # what the user should know: a head that was dropped, say


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a teacher says about one batch."""

    features: Float32[np.ndarray, "rows dim"]
    logits: Float32[np.ndarray, "rows classes"] | None


@runtime_checkable
class Teacher(Protocol):
    """Turns inputs into feature rows. Equal inputs give equal rows, whatever the batch.

    Inputs are RGB images of PIL, strings, or pairs of strings.
    """

    @property
    def card(self) -> TeacherCard:
        """What this teacher is."""
        ...

    @property
    def module(self) -> torch.nn.Module:
        """The backbone: a prepared batch to (rows, dim) features, with gradient if trained."""
        ...

    @property
    def head(self) -> torch.nn.Linear | None:
        """From features to one logit per class of the card."""
        ...

    @property
    def prepare(self) -> Prepare:
        """Inputs to CPU tensors; picklable, so that a data-loading process can run it."""
        ...

    @property
    def device(self) -> str:
        """Where it runs: cpu, cuda, cuda:1 or mps."""
        ...

    @property
    def dtype(self) -> str:
        """What it computes in: float32 or bfloat16. Features are float32 all the same."""
        ...

    def lengths(self, inputs: Sequence[Any]) -> list[int]:
        """How long each input is, for batching like with like; images are all equal."""
        ...

    def embed(self, prepared: Prepared) -> Outputs:
        """Features, and logits where there is a head, of one prepared batch."""
        ...
