"""Linear layers and embeddings whose rank is chosen at run time, and convolutions beside them."""

import math
from collections.abc import Iterable
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
    linear,
    refuse_unusual,
    shared_rank,
)
from students.nested.convolutions import NestedConv2d
from students.nested.errors import NestedError
from students.nested.forms import Form, gauge
from students.nested.gauges import ColumnsGauge, Factored, FactoredTable, RowsGauge

__all__ = ["NestedConv2d", "NestedEmbedding", "NestedLinear"]

Pair = tuple[int, int]


@final
class NestedLinear(NestedLayer):
    """y = W_r x + bias, by 2 r (d_in + d_out) FLOPs a row."""

    LIKE = ("in_features", "out_features")

    def __init__(
        self, in_features: int, out_features: int, full_rank: int, *, bias: bool = True
    ) -> None:
        super().__init__(
            rows=out_features,
            columns=in_features,
            full_rank=full_rank,
            spread=(3 * in_features) ** -0.5,  # nn.Linear's
            biased=bias,
        )
        self.in_features = in_features
        self.out_features = out_features

    @classmethod
    def from_factors(
        cls,
        up: Float[Tensor, "d_out full_rank"],
        down: Float[Tensor, "full_rank d_in"],
        bias: Float[Tensor, " d_out"] | None,
    ) -> "NestedLinear":
        """Make the layer of these tensors, which become its parameters without a copy.

        ``NestedError`` for shapes or dtypes that do not fit together.
        """
        rank = shared_rank(up, down, bias)
        with torch.device("meta"):
            layer = cls(down.shape[1], up.shape[0], rank, bias=bias is not None)
        layer._hold(up, down, bias)
        return layer

    @property
    def dims(self) -> Pair:
        """(d_in, d_out)."""
        return self.in_features, self.out_features

    def _shaped(self, matrix: Tensor) -> Tensor:
        return matrix

    def _plain(self, up: Tensor, down: Tensor, form: Form) -> nn.Module:
        """``nn.Linear``, two of them, or a gauge whose gather is on the narrow side."""
        bias = self.bias_at(up.shape[1])
        if form == "dense":
            return linear(up @ down, bias)
        if form == "factored":
            return Factored(linear(down, None), linear(up, bias))
        if self.in_features <= self.out_features:
            found = gauge(up, down, "columns")
            first, second = linear(found.mix.T, None), linear(found.wide.T, bias)
            return ColumnsGauge(first, second, found.kept, found.rest)
        found = gauge(up, down, "rows")
        some, others = gauge_biases(found, bias)
        first, second = linear(found.wide, some), linear(found.mix, others)
        return RowsGauge(first, second, gauge_order(found), dim=-1)

    def _kept(self, rank: int, form: Form) -> nn.Module:
        return TwoProducts(self, rank) if form == "factored" else super()._kept(rank, form)

    def _factored(self, inputs: Tensor, rank: int) -> Tensor:
        up, down = self._factors(rank)
        return functional.linear(functional.linear(inputs, down), up, self.bias_at(rank))

    def _whole(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(inputs, weight, bias)

    def _positions(self, inputs: Tensor) -> int:
        return inputs.numel() // self.in_features


@final
class TwoProducts(nn.Module):
    """A factored rank as it is kept: two products in one call, no slice cut and no bias added up.

    Columns of B_r lie together here: products of few rows take up to a fifth less time than with
    columns among those of B. The rows of A_r do in A, which are not copied.
    """

    def __init__(self, layer: NestedLinear, rank: int) -> None:
        super().__init__()
        up, down = layer._factors(rank)
        bias = layer.bias_at(rank)
        self.up, self.down = up.detach().contiguous(), down.detach()
        self.bias = None if bias is None else bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """B_r (A_r x) + bias."""
        return functional.linear(functional.linear(inputs, self.down), self.up, self.bias)


@final
class NestedEmbedding(NestedLayer):
    """Rows of W_r: W (rows, d) = ``up`` (rows, R) @ ``down`` (R, d), by 2 r d FLOPs a token.

    It saves parameters, not FLOPs: a table costs none, so that this is its cheapest form.
    """

    LIKE = ("num_embeddings", "embedding_dim", "padding_idx")

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        full_rank: int,
        *,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(
            rows=num_embeddings,
            columns=embedding_dim,
            full_rank=full_rank,
            spread=1.0,  # nn.Embedding's
            biased=False,
        )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self._break_even = math.inf  # rows are looked up: a whole table is never worth making
        if padding_idx is not None:
            with torch.no_grad():
                self.up[padding_idx] = 0.0  # and no gradient comes: it stays 0 at every rank

    @classmethod
    def from_factors(
        cls,
        up: Float[Tensor, "rows full_rank"],
        down: Float[Tensor, "full_rank d"],
        bias: None = None,
        *,
        like: nn.Embedding,
    ) -> "NestedEmbedding":
        """Make the layer of these tensors, with the padding of ``like``.

        ``NestedError`` for what does not fit together; ``SurgeryError`` for tables that rescale
        their rows or have sparse gradients.
        """
        refuse_unusual(like)
        rank = shared_rank(up, down, bias)
        with torch.device("meta"):
            layer = cls(up.shape[0], down.shape[1], rank, padding_idx=like.padding_idx)
        layer._hold(up, down, None)
        return layer

    @property
    def dims(self) -> Pair:
        """(rows, d)."""
        return self.num_embeddings, self.embedding_dim

    def give_biases(self, ranks: Iterable[int]) -> None:  # noqa: ARG002
        """``NestedError``: a table has no bias."""
        raise NestedError("an embedding has no bias, and so none of a rank's own")

    def cheapest(self, rank: int, *, gauges: bool = True) -> Form:  # noqa: ARG002
        """A table, always."""
        return "dense"

    def cost(self, rank: int, form: Form) -> int:
        """FLOPs of one token."""
        return 0 if form == "dense" else 2 * rank * self.embedding_dim

    def _shaped(self, matrix: Tensor) -> Tensor:
        return matrix

    def _plain(self, up: Tensor, down: Tensor, form: Form) -> nn.Module:
        """``nn.Embedding``, or a narrow one before ``nn.Linear``."""
        if form == "dense":
            return self._table(up @ down)
        if form == "factored":
            return FactoredTable(self._table(up), linear(down.T, None))
        raise NestedError("an embedding has no gauge form: take dense or factored")

    def _factored(self, inputs: Tensor, rank: int) -> Tensor:
        up, down = self._factors(rank)
        return functional.linear(functional.embedding(inputs, up, self.padding_idx), down.T)

    def _whole(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG002
        return functional.embedding(inputs, weight, self.padding_idx)

    def _positions(self, inputs: Tensor) -> int:
        return inputs.numel()

    def _table(self, rows: Tensor) -> nn.Embedding:
        with torch.device("meta"):
            layer = nn.Embedding(len(rows), rows.shape[1], padding_idx=self.padding_idx)
        return filled(layer, rows, None)
