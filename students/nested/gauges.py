"""Plain modules that apply a matrix in gauge form; they know nothing of nested layers.

Their products are modules of torch, so that exporters and counters of FLOPs see what is done.
"""

from typing import final

import torch
from torch import Tensor, nn


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
