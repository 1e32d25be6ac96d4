"""A plain form kept of a layer, and whether its parameters are still those that it was made of.

Most changes raise a tensor's version, and tensors that are swapped in lie elsewhere in memory.
Fused optimisers do neither. But a backward pass leaves gradients before they step: a hook tells of
those, unless they were put there by hand.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from students.nested.errors import NestedError


class _Mark(NamedTuple):
    name: str
    tensor: Tensor
    version: int
    place: int
    learns: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A plain layer, and what the parameters were when it was made."""

    plain: nn.Module
    marks: tuple[_Mark, ...]

    def holds(self, parameters: Mapping[str, Tensor | None]) -> bool:
        """Whether they are these tensors still, unchanged and in their places."""
        for name, tensor, version, place, learns in self.marks:
            if parameters.get(name) is not tensor:
                return False
            # a plain loop: this is called at every forward pass
            if (
                tensor._version != version
                or tensor.data_ptr() != place
                or tensor.requires_grad is not learns
            ):
                return False
        return True


def marks_of(parameters: Mapping[str, Tensor | None]) -> tuple[_Mark, ...]:
    """Note what these tensors are now; ``NestedError`` for those that hide their changes."""
    held = [(name, tensor) for name, tensor in parameters.items() if tensor is not None]
    if any(tensor.is_inference() for _, tensor in held):
        raise NestedError(
            "parameters made under torch.inference_mode do not tell when they change, so that "
            "nothing can be prepared of them; make the network outside of it"
        )
    return tuple(
        _Mark(name, tensor, tensor._version, tensor.data_ptr(), tensor.requires_grad)
        for name, tensor in held
    )


def when_they_learn(
    parameters: Mapping[str, Tensor | None], told: list[Tensor], do: Callable[[], None]
) -> None:
    """Have a method called whenever a gradient comes to one of these; ``told`` has a hook already.

    The method is held weakly: parameters outlive no layer.
    """
    method = weakref.WeakMethod(do)

    def gradient_came(_: Tensor) -> None:
        if alive := method():
            alive()

    for tensor in parameters.values():
        if tensor is None or not tensor.requires_grad or any(tensor is each for each in told):
            continue
        tensor.register_post_accumulate_grad_hook(gradient_came)  # type: ignore[no-untyped-call]
        told.append(tensor)
