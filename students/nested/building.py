"""Plain layers made of tensors: what a nested layer is at one rank, and what it is made from."""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from students.nested.errors import NestedError, SurgeryError
from students.nested.forms import Gauge

Plain = TypeVar("Plain", nn.Linear, nn.Conv2d, nn.Embedding)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with copies of these tensors."""
    rows, columns = weight.shape
    with torch.device("meta"):  # nothing is drawn for weights that are thrown away
        layer = nn.Linear(columns, rows, bias=bias is not None)
    return filled(layer, weight, bias)


def pointwise(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A 1 x 1 convolution with copies of these tensors; ``weight`` is a matrix."""
    rows, columns = weight.shape
    with torch.device("meta"):
        layer = nn.Conv2d(columns, rows, 1, bias=bias is not None)
    return filled(layer, weight[:, :, None, None], bias)


def filled(layer: Plain, weight: Tensor, bias: Tensor | None) -> Plain:
    """Give the layer copies of these tensors."""
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def gauge_biases(found: Gauge, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Biases b1 of the kept rows and b2 of the others: mix @ (t + b1) + b2 is that of y."""
    if bias is None:
        return None, None
    kept = bias[found.kept]
    return kept, bias[found.rest] - found.mix @ kept


def gauge_order(found: Gauge) -> Tensor:
    """Which of (kept, rest) each row is."""
    return torch.argsort(torch.cat([found.kept, found.rest]))


def shared_rank(
    up: Float[Tensor, "rows rank"], down: Float[Tensor, "rank columns"], bias: Tensor | None
) -> int:
    """R of factors that fit; ``NestedError`` for those that do not, or are no real numbers."""
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
        raise NestedError(
            f"factors of shapes {tuple(up.shape)} and {tuple(down.shape)} have no product: "
            "up must be (rows, R) and down (R, columns)"
        )
    if bias is not None and tuple(bias.shape) != (len(up),):
        raise NestedError(f"a bias of shape {tuple(bias.shape)} does not fit {len(up)} outputs")
    kinds = {tensor.dtype for tensor in (up, down, bias) if tensor is not None}
    if len(kinds) > 1 or not up.is_floating_point():
        named = ", ".join(sorted(str(kind) for kind in kinds))
        raise NestedError(f"factors and bias must be of one floating dtype, got {named}")
    return up.shape[1]


def refuse_unusual(layer: nn.Module) -> None:
    """``SurgeryError`` for a plain layer that does more than a matrix does."""
    if isinstance(layer, nn.Conv2d) and layer.groups != 1:
        raise SurgeryError(
            f"a convolution of {layer.groups} groups cannot be nested: its matrix is no product of "
            "two small ones; leave it out"
        )
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise SurgeryError(
            f"a convolution padded by {layer.padding_mode!r} cannot be nested: only zeros can"
        )
    if isinstance(layer, nn.Embedding) and (
        layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse
    ):
        raise SurgeryError(
            "an embedding with max_norm, scale_grad_by_freq or sparse gradients cannot be nested"
        )
