"""Biases of each taught rank's own, as slimmable networks have norms of each width's own.

One bias for all ranks must serve networks that differ: what few directions give is small, or has
another mean. With one of its own a rank adds d_out numbers a layer and no FLOPs; the subspaces stay
nested. (Yu et al., Slimmable Neural Networks, arXiv 1812.08928, of norms.)
"""

from collections.abc import Iterable

from torch import nn

from students.nested.base import NestedLayer
from students.nested.errors import NestedError
from students.nested.layers import NestedEmbedding
from students.nested.materialise import read_by_torch
from students.nested.ranks import Ranks, chosen_ranks, nested_layers


def give_biases(network: nn.Module, settings: Iterable[Ranks]) -> int:
    """Give every layer a bias of its own at each rank that it has in ``settings``; say how many.

    They are zeros beside the shared bias, so that nothing changes until they learn, and replace
    those there are. Weight decay draws them there again. Ranks in between take those of the next
    higher rank. Tables have none, and neither have layers whose numbers torch's own attention and
    encoder layers read themselves (other code that does so sees the shared bias alone).
    ``surgery_of`` tells of them, and ``nest_like`` makes them again. ``RankError`` as ``set_rank``,
    ``NestedError`` where no layer can have any.
    """
    layers, biased = nested_layers(network), biasable_layers(network)
    wanted: dict[str, set[int]] = {name: set() for name in biased}
    for setting in settings:
        chosen = chosen_ranks(layers, setting)
        for name, ranks in wanted.items():
            ranks.add(chosen.get(layers[name], layers[name].rank))
    for name, ranks in wanted.items():
        layers[name].give_biases(ranks)
    return sum(layer.dims[1] * len(layer.own_ranks) for layer in biased.values())


def biasable_layers(network: nn.Module) -> dict[str, NestedLayer]:
    """Nested layers, by name, that can have biases of their own; ``NestedError`` for none."""
    read = read_by_torch(network)
    found = {
        name: layer
        for name, layer in nested_layers(network).items()
        if not isinstance(layer, NestedEmbedding) and id(layer) not in read
    }
    if not found:
        raise NestedError("no nested layer of this network can have biases of its ranks' own")
    return found
