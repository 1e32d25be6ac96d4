"""What a network costs at any ranks: FLOPs of all of it at a stated input, two a multiply-add.

Counted by torch's ``FlopCounterMode``: products of matrices, convolutions and attention, heads
included; elementwise work, norms and lookups count nothing. A forward pass at any ranks tells all:
the counter is read before and after each nested layer, and each layer's rows are noted, so that

    flops(ranks) = total - Σ dense layer + Σ layer at its rank

is exact, whatever form the layers run in while they are counted.
"""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from students.counting import counting
from students.errors import nearest
from students.nested.base import READING, NestedLayer
from students.nested.calibration import call, in_evaluation
from students.nested.errors import RankError
from students.nested.ranks import Ranks, nested_layers


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Costs:
    """``total`` dense FLOPs of the network, and how many ``rows`` each nested layer multiplies.

    Rows are of all calls: a layer that runs twice has twice as many. One that this input does not
    reach has none.
    """

    total: int
    rows: Mapping[str, int]
    layers: Mapping[str, NestedLayer]

    def of_layer(self, name: str, rank: int, *, prepared: bool = True) -> int:
        """FLOPs of one layer at a rank: in its cheapest form if ``prepared``.

        Else as it runs with nothing kept, all its rows in one call: by two products, or by their
        matrix where rows are many and the rank is beyond break-even. ``RankError`` for a layer
        there is not, and for a rank outside 1..R.
        """
        layer, rows = self._named(name), self.rows[name]
        checked = layer.checked(rank)
        if not prepared:
            return layer.cost_unprepared(checked, rows)
        return rows * layer.cost(checked, layer.cheapest(checked))

    def dense(self, name: str) -> int:
        """FLOPs of the plain layer in its place."""
        layer = self._named(name)
        return self.rows[name] * layer.cost(layer.full_rank, "dense")

    def flops(self, ranks: Ranks, *, prepared: bool = True) -> int:
        """FLOPs of the whole network; layers that ``ranks`` does not name stay dense."""
        wanted = dict.fromkeys(self.layers, ranks) if isinstance(ranks, int) else ranks
        return self.total + sum(
            self.of_layer(name, rank, prepared=prepared) - self.dense(name)
            for name, rank in wanted.items()
        )

    def share(self, ranks: Ranks, *, prepared: bool = True) -> float:
        """Share of the dense FLOPs; at most 1 if ``prepared``."""
        return self.flops(ranks, prepared=prepared) / self.total

    def _named(self, name: str) -> NestedLayer:
        if name not in self.layers:
            raise RankError(f"no nested layer is called {name!r}{nearest(name, self.layers)}")
        return self.layers[name]


def dense_costs(network: nn.Module, batch: Any) -> Costs:
    """Costs of a network with nested layers on this batch, which is what it takes.

    ``RankError`` for a network without nested layers.
    """
    layers = nested_layers(network)
    rows, inside, before = dict.fromkeys(layers, 0), 0, 0
    read: list[NestedLayer] = []

    with ExitStack() as stack:
        stack.callback(READING.reset, READING.set(read))
        stack.enter_context(in_evaluation(network))
        counter = stack.enter_context(counting())

        def enter(layer: nn.Module, args: Any) -> None:  # noqa: ARG001
            nonlocal before
            before = counter.get_total_flops()

        def leave(layer: nn.Module, args: Any, outputs: Tensor) -> None:  # noqa: ARG001
            nonlocal inside
            inside += counter.get_total_flops() - before
            name = names[layer]
            rows[name] += outputs.numel() // layers[name].dims[1]

        names: dict[nn.Module, str] = {layer: name for name, layer in layers.items()}
        for layer in layers.values():
            stack.callback(layer.register_forward_pre_hook(enter).remove)
            stack.callback(layer.register_forward_hook(leave).remove)
        call(network, batch)
        counted = counter.get_total_flops()
    dense = sum(rows[name] * of.cost(of.full_rank, "dense") for name, of in layers.items())
    # a dense layer's weight is there to be read, and a nested one's is a product
    inside += sum(2 * math.prod(layer.dims) * layer.rank_now for layer in read)
    return Costs(total=counted - inside + dense, rows=rows, layers=layers)


def count_flops(network: nn.Module, batch: Any) -> int:
    """FLOPs of the network as it runs here and now in evaluation, plain or nested."""
    with in_evaluation(network), counting() as counter:
        call(network, batch)
        return int(counter.get_total_flops())
