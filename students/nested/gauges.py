"""Plain modules that apply a matrix as two products, or in gauge form; they know no nested layers.

Their products are modules of torch, so that exporters and counters of FLOPs see what is done. Code
of other networks that reads the weight or the bias of the plain layer in their place finds them
here too: products of what there is, made anew at each reading.
"""

from typing import final

import torch
from torch import Tensor, nn


def _matrix(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight").flatten(1)


@final
class Factored(nn.Sequential):
    """One layer after the other: a linear one or a convolution, and one of its outputs."""

    @property
    def weight(self) -> Tensor:
        """W of the plain layer, up @ down."""
        first, last = self
        kernels = first.get_parameter("weight")
        return (_matrix(last) @ _matrix(first)).view(-1, *kernels.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        """That of the last layer."""
        return dict(self[1].named_parameters()).get("bias")


@final
class FactoredTable(nn.Sequential):
    """A table of few numbers a row, and a linear layer that makes them as many as they were."""

    @property
    def weight(self) -> Tensor:
        """The rows of the plain table."""
        table, last = self
        return _matrix(table) @ _matrix(last).T


@final
class RowsGauge(nn.Module):
    """Some outputs by ``first``, the others from those by ``second``, in their places.

    ``order`` (d_out,) says which of first's and second's outputs each output is; ``dim`` is the
    axis of the outputs.
    """

    order: Tensor

    def __init__(self, first: nn.Module, second: nn.Module, order: Tensor, dim: int) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.dim = dim
        self.register_buffer("order", order.int())

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs as of the plain layer."""
        some = self.first(inputs)
        return torch.cat([some, self.second(some)], self.dim).index_select(self.dim, self.order)

    @property
    def weight(self) -> Tensor:
        """W of the plain layer."""
        kernels, some = self.first.get_parameter("weight"), _matrix(self.first)
        whole = torch.cat([some, _matrix(self.second) @ some])[self.order]
        return whole.view(-1, *kernels.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        """That of the plain layer, which the others have in part from the first."""
        some = dict(self.first.named_parameters()).get("bias")
        if some is None:
            return None
        others = self.second.get_parameter("bias") + _matrix(self.second) @ some
        return torch.cat([some, others])[self.order]


@final
class ColumnsGauge(nn.Module):
    """Some inputs pass ``first`` by and meet what it makes of the others; ``second`` reads both.

    Of rows of inputs (..., d_in), ``kept`` and ``rest`` are the places of those two kinds.
    """

    kept: Tensor
    rest: Tensor

    def __init__(self, first: nn.Module, second: nn.Module, kept: Tensor, rest: Tensor) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.register_buffer("kept", kept.int())
        self.register_buffer("rest", rest.int())

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs as of the plain layer."""
        made = self.first(inputs.index_select(-1, self.rest))
        found: Tensor = self.second(made.add_(inputs.index_select(-1, self.kept)))
        return found

    @property
    def weight(self) -> Tensor:
        """W of the plain layer."""
        columns = _matrix(self.second)
        whole = torch.cat([columns, columns @ _matrix(self.first)], dim=1)
        return whole[:, torch.argsort(torch.cat([self.kept, self.rest]))]

    @property
    def bias(self) -> Tensor | None:
        """That of the second layer."""
        return dict(self.second.named_parameters()).get("bias")
