"""The module every teacher has: a prepared batch in, (rows, dim) features out.

It may tap an inner layer: the network then runs as usual and the layer's output, pooled, is
the feature.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from teachers.base import Modality, Prepare
from teachers.errors import TeacherError, nearest
from teachers.pooling import Pooling

Call = Callable[[nn.Module, Mapping[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a family of teachers is asked to build."""

    name: str  # without the family's prefix
    weights: str  # "pretrained", "random", or a file
    image_size: int
    pooling: str
    max_length: int
    layer: str
    options: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a family of teachers built: a network without its classifier, and all around it."""

    network: nn.Module
    modality: Modality
    prepare: Prepare
    preprocessing: Mapping[str, Any]
    call: Call
    pooling: Pooling
    head: nn.Linear | None = None
    labels: tuple[str, ...] = ()  # of the head's rows; () when they have no names
    notes: tuple[str, ...] = field(default=())


class Backbone(nn.Module):
    """A network and how its output becomes rows."""

    def __init__(self, network: nn.Module, *, call: Call, pooling: Pooling, layer: str) -> None:
        super().__init__()
        self.network = network
        self.layer = layer
        self._call = call
        self._pooling = pooling
        if layer:
            find_layer(network, layer)

    def forward(self, prepared: Mapping[str, torch.Tensor]) -> Float[torch.Tensor, "rows dim"]:
        """Features of one prepared batch."""
        return self.pool(self.output(prepared), prepared)

    def pool(
        self, output: torch.Tensor, prepared: Mapping[str, torch.Tensor]
    ) -> Float[torch.Tensor, "rows dim"]:
        """Rows from what ``output`` gave."""
        return self._pooling(output, prepared)

    def output(self, prepared: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the network, or the layer tapped, gives before pooling."""
        if not self.layer:
            return self._call(self.network, prepared)
        seen: list[Any] = []
        # a hook that lives only for this call: copies of the module cannot share it
        handle = self.network.get_submodule(self.layer).register_forward_hook(
            lambda _module, _inputs, output: seen.append(output)
        )
        try:
            self._call(self.network, prepared)
        finally:
            handle.remove()
        if not seen:
            raise TeacherError(
                f"layer {self.layer!r} takes no part in the forward pass; tap another"
            )
        return _first_tensor(seen[-1], self.layer)


def find_layer(network: nn.Module, path: str) -> nn.Module:
    """The inner module at a dotted path; ``TeacherError`` with the nearest path."""
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if path not in modules:
        top = ", ".join(name for name, _ in network.named_children())
        hint = nearest(path, modules) or f"; at the top it has {top}"
        raise TeacherError(f"the teacher has no layer {path!r}{hint}")
    return modules[path]


def _first_tensor(output: Any, layer: str) -> torch.Tensor:
    """Layers of transformers give tuples or records whose first tensor is the hidden state."""
    if isinstance(output, torch.Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output
    found = None
    if isinstance(values, (tuple, list)) or isinstance(output, Mapping):
        found = next((value for value in values if isinstance(value, torch.Tensor)), None)
    if found is None:
        raise TeacherError(f"layer {layer!r} gives no tensor; tap another")
    return found
