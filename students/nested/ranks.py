"""The ranks of a network: set for all, asked for by one request, and prepared for.

``set_rank`` changes the network itself. ``using_ranks`` changes nothing but what the calls inside
its block run at, in this thread and this asyncio task: requests at different ranks share one
network. It is a ``ContextVar``, so that a new thread begins at the defaults (``asyncio.to_thread``
takes the ranks along), and so does what a backward pass computes anew on a GPU: gradient
checkpointing needs ``set_rank``.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from students.errors import nearest
from students.nested.base import ASKED, NestedLayer
from students.nested.errors import RankError
from students.nested.forms import Form

Ranks = int | Mapping[str, int]  # of all layers, or of some by name


def nested_layers(network: nn.Module) -> dict[str, NestedLayer]:
    """Give the nested layers by their names; ``RankError`` for a network without any."""
    found = {n: layer for n, layer in network.named_modules() if isinstance(layer, NestedLayer)}
    if not found:
        raise RankError(
            f"the network ({type(network).__name__}) has no nested layers; nest it first"
        )
    return found


def ranks(network: nn.Module) -> dict[str, int]:
    """Give the rank that each nested layer runs at here and now."""
    return {name: layer.rank_now for name, layer in nested_layers(network).items()}


def set_rank(network: nn.Module, wanted: Ranks) -> None:
    """Set the default rank of all layers, or of those named.

    All or none: ``RankError`` for a rank outside 1..R and for a name that no nested layer has.
    """
    for layer, rank in chosen_ranks(nested_layers(network), wanted).items():
        layer.rank = rank


@contextmanager
def using_ranks(network: nn.Module, wanted: Ranks) -> Iterator[None]:
    """Run the calls inside at these ranks; blocks may stand in one another, the inner one wins.

    ``RankError`` as ``set_rank``.
    """
    chosen = chosen_ranks(nested_layers(network), wanted)
    token = ASKED.set({**(ASKED.get() or {}), **chosen})
    try:
        yield
    finally:
        ASKED.reset(token)


def prepare(network: nn.Module, points: Iterable[Ranks]) -> dict[str, dict[int, Form]]:
    """Keep the cheapest form of every layer at the ranks of these points, and of no others.

    Gives that form by layer and rank. A layer that a point does not name runs at its default. In
    evaluation without gradients a kept form serves at once when its rank comes; training, changed
    weights and moves to another device end it. Dense products take the memory of a plain layer
    each, gauges about that of the factors at that rank.
    ``RankError`` as ``set_rank``.
    """
    layers = nested_layers(network)
    wanted: dict[str, set[int]] = {name: set() for name in layers}
    for point in points:
        chosen = chosen_ranks(layers, point)
        for name, layer in layers.items():
            wanted[name].add(chosen.get(layer, layer.rank))
    return {name: layer.prepare(wanted[name]) for name, layer in layers.items()}


def unprepare(network: nn.Module) -> None:
    """Forget all kept forms and free their memory."""
    for layer in nested_layers(network).values():
        layer.unprepare()


def chosen_ranks(layers: Mapping[str, NestedLayer], wanted: Ranks) -> dict[NestedLayer, int]:
    """Ranks by layer, all of them checked before anything is changed."""
    if not isinstance(wanted, Mapping):
        wanted = dict.fromkeys(layers, wanted)
    chosen = {}
    for name, rank in wanted.items():
        if name not in layers:
            raise RankError(f"no nested layer is called {name!r}{nearest(name, layers)}")
        try:
            chosen[layers[name]] = layers[name].checked(rank)
        except RankError as error:
            raise RankError(f"{name}: {error}") from None
    return chosen
