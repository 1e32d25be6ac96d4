"""A nested network at one choice of ranks as a plain network, for exporters and other programs."""

import copy

import torch
from torch import nn

from students.nested.forms import Form
from students.nested.norms import settle_norms
from students.nested.ranks import Ranks, chosen_ranks, nested_layers

# Torch's own fast paths read the weight of these layers' children instead of calling them.
READERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


def materialise(network: nn.Module, wanted: Ranks, *, gauges: bool = True) -> nn.Module:
    """Copy the network with torch's own layers in place of nested ones, each in its cheapest form.

    One layer, two in a row, or a gauge, as the layer's rank has it: ``students.nested.gauges`` has
    modules of torch's layers whose weight and bias can be read as the plain layer's. A layer that
    ``wanted`` does not name is taken at the rank of here and now. The network stays as it is, and
    the copy shares nothing with it. Where torch reads a layer's weight itself, in its
    attention and encoder layers, the form is dense.

    BatchNorm has the statistics of here and now, too: those of a budget after ``set_budget`` or
    within ``using_budget``.

    A gauge saves FLOPs by a gather. In torch that pays; onnxruntime gathers so slowly that a
    network without gauges, of more FLOPs, answers sooner there.
    ``RankError`` as ``set_rank``.
    """
    layers = nested_layers(network)
    chosen = chosen_ranks(layers, wanted)
    read = read_by_torch(network)
    plain: dict[int, nn.Module] = {}
    for layer in layers.values():
        rank = chosen.get(layer, layer.rank_now)
        form: Form = "dense" if id(layer) in read else layer.cheapest(rank, gauges=gauges)
        plain[id(layer)] = layer.plain(rank, form)
    # what a deep copy meets again it takes from here: no factors are copied in vain
    made: nn.Module = copy.deepcopy(network, plain)
    with torch.no_grad():
        settle_norms(plain)
    for module in made.modules():
        # of layers that are no longer there
        for record in ("nested_surgery", "nested_path", "nested_norms"):
            module.__dict__.pop(record, None)
    return made


def read_by_torch(network: nn.Module) -> set[int]:
    """The ids of layers whose numbers torch reads itself, in its attention and encoder layers."""
    parents = (module for module in network.modules() if isinstance(module, READERS))
    return {id(child) for parent in parents for child in parent.children()}
