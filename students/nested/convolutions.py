"""Convolutions whose rank is chosen at run time."""

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from students.nested.base import NestedLayer
from students.nested.building import (
    filled,
    gauge_biases,
    gauge_order,
    pointwise,
    refuse_unusual,
    shared_rank,
)
from students.nested.errors import NestedError
from students.nested.forms import Form, gauge
from students.nested.gauges import Factored, RowsGauge

Pair = tuple[int, int]
WINDOW = ("kernel_size", "stride", "padding", "dilation")


@final
class NestedConv2d(NestedLayer):
    """A k x k convolution with r outputs, then a 1 x 1 one: d_in = in_channels k k.

    Stride, padding and dilation are the first one's. FLOPs are of an output position.
    """

    LIKE = (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
        "padding_mode",
    )  # fmt: skip

    groups = 1
    padding_mode = "zeros"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        full_rank: int,
        *,
        kernel_size: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: Pair | str = (0, 0),
        dilation: Pair = (1, 1),
        bias: bool = True,
    ) -> None:
        columns = in_channels * math.prod(kernel_size)
        super().__init__(
            rows=out_channels,
            columns=columns,
            full_rank=full_rank,
            spread=(3 * columns) ** -0.5,
            biased=bias,
        )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation

    @classmethod
    def from_factors(
        cls,
        up: Float[Tensor, "d_out full_rank"],
        down: Float[Tensor, "full_rank d_in"],
        bias: Float[Tensor, " d_out"] | None,
        *,
        like: nn.Conv2d,
    ) -> "NestedConv2d":
        """Make the layer of these tensors, with kernel, stride, padding and dilation of ``like``.

        ``NestedError`` for groups, padding by anything but zeros, and what does not fit together.
        """
        refuse_unusual(like)
        rank = shared_rank(up, down, bias)
        settings = {name: getattr(like, name) for name in WINDOW}
        with torch.device("meta"):
            layer = cls(
                like.in_channels, like.out_channels, rank, bias=bias is not None, **settings
            )
        shapes = (*up.shape[:1], *down.shape[1:])
        if shapes[::-1] != layer.dims:
            raise NestedError(
                f"factors of a matrix {shapes} do not fit a convolution of {layer.dims[::-1]}"
            )
        layer._hold(up, down, bias)
        return layer

    @property
    def dims(self) -> Pair:
        """(in_channels kh kw, out_channels)."""
        return self.in_channels * math.prod(self.kernel_size), self.out_channels

    def _shaped(self, matrix: Tensor) -> Tensor:
        return matrix.view(-1, self.in_channels, *self.kernel_size)

    def _plain(self, up: Tensor, down: Tensor, form: Form) -> nn.Module:
        """``nn.Conv2d``, two of them, or a gauge whose gather is of output channels."""
        bias = self.bias_at(up.shape[1])
        if form == "dense":
            return self._first(up @ down, bias)
        if form == "factored":
            return Factored(self._first(down, None), pointwise(up, bias))
        found = gauge(up, down, "rows")
        some, others = gauge_biases(found, bias)
        first, second = self._first(found.wide, some), pointwise(found.mix, others)
        # from the end, as a convolution takes an image without a batch too
        return RowsGauge(first, second, gauge_order(found), dim=-3)

    def _factored(self, inputs: Tensor, rank: int) -> Tensor:
        up, down = self._factors(rank)
        kernels = self._shaped(down)
        inner = functional.conv2d(inputs, kernels, None, self.stride, self.padding, self.dilation)
        return functional.conv2d(inner, up[:, :, None, None], self.bias_at(rank))

    def _whole(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(inputs, weight, bias, self.stride, self.padding, self.dilation)

    def _positions(self, inputs: Tensor) -> int:
        images = inputs.shape[0] if inputs.ndim == 4 else 1
        sides = zip(inputs.shape[-2:], self._padded(), *self._window(), strict=True)
        return images * math.prod(
            max(0, (side + padded - dilation * (kernel - 1) - 1) // stride + 1)
            for side, padded, kernel, stride, dilation in sides
        )

    def _window(self) -> tuple[Pair, Pair, Pair]:
        return self.kernel_size, self.stride, self.dilation

    def _padded(self) -> Pair:
        """Zeros on both ends of each side together."""
        if self.padding == "same":
            high, wide = (d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True))
            return high, wide
        if isinstance(self.padding, str):
            return 0, 0
        return 2 * self.padding[0], 2 * self.padding[1]

    def _first(self, matrix: Tensor, bias: Tensor | None) -> nn.Conv2d:
        window = {name: getattr(self, name) for name in WINDOW}
        with torch.device("meta"):
            layer = nn.Conv2d(self.in_channels, len(matrix), bias=bias is not None, **window)
        return filled(layer, self._shaped(matrix), bias)
