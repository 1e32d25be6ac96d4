"""What a nested network is measured against: fewer layers, and plain layers of one rank.

Each is a copy of the dense network; the network given stays as it is.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from students.nested.errors import SurgeryError
from students.nested.hints import comparable
from students.nested.kinds import KINDS
from students.nested.materialise import materialise
from students.nested.presets import usual
from students.nested.surgery import nest


def truncated(
    network: nn.Module,
    include: str | Iterable[str],
    *,
    init: str,
    calibration: Sequence[Any] = (),
    gauges: bool = True,
) -> nn.Module:
    """A nested copy that nothing is taught: by "svd", or "whitened" as SVD-LLM (arXiv 2403.07378).

    Errors as ``nest``.
    """
    made = copy.deepcopy(network)
    nest(made, include, init=init, calibration=calibration, gauges=gauges)
    return made


def factored(start: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """A plain network of one rank a layer, to be taught by itself, made of a nested one.

    Two layers stand in the place of each nested one, or one beyond break-even. ``RankError`` as
    ``set_rank``.
    """
    made = materialise(start, ranks, gauges=False)
    return made.requires_grad_(True)


def first_half(network: nn.Module) -> tuple[nn.Module, str]:
    """A copy with the first half of its blocks, rounded up, and what they are called.

    Blocks are the children of the list that holds the most parameters in layers of one class.
    ``SurgeryError`` for a network without such a list.
    """
    made = copy.deepcopy(network)
    name = block_list(made)
    blocks = made.get_submodule(name)
    kept = list(blocks.children())[: (len(list(blocks.children())) + 1) // 2]
    fewer = nn.Sequential(*kept) if isinstance(blocks, nn.Sequential) else nn.ModuleList(kept)
    parent, _, own = name.rpartition(".")
    setattr(made.get_submodule(parent), own, fewer.train(blocks.training))
    return made, name


def half_of(network: nn.Module, batch: Any) -> dict[str, str]:
    """Layers of the network and their counterparts in its ``first_half``, by name.

    Of n blocks and k kept, kept block j stands for all up to block (j + 1) n // k - 1 of the whole
    network and is to give what that one gives (as TinyBERT maps layers, arXiv 1909.10351). Layers
    that give other shapes there for this ``batch``, as where a block narrows, have none. Errors as
    ``first_half``.
    """
    half, name = first_half(network)
    blocks = [own for own, _ in network.get_submodule(name).named_children()]
    kept = [own for own, _ in half.get_submodule(name).named_children()]
    stands = {blocks[(at + 1) * len(blocks) // len(kept) - 1]: own for at, own in enumerate(kept)}
    there = {own for own, _ in half.named_modules()}
    pairs = {}
    for layer, module in network.named_modules():
        if not isinstance(usual(module), KINDS):
            continue
        own = layer
        if layer.startswith(f"{name}."):
            block, dot, rest = layer.removeprefix(f"{name}.").partition(".")
            own = f"{name}.{stands[block]}{dot}{rest}" if block in stands else ""
        if own and own in there:
            pairs[layer] = own
    return comparable(network, half, pairs, batch)


def block_list(network: nn.Module) -> str:
    """Name of the list of like blocks that holds the most parameters."""
    sizes: dict[str, int] = {}
    for name, module in network.named_modules():
        children = list(module.children())
        alike = len({type(child) for child in children}) == 1
        if name and isinstance(module, nn.ModuleList | nn.Sequential) and alike and children[1:]:
            sizes[name] = sum(parameter.numel() for parameter in module.parameters())
    if not sizes:
        raise SurgeryError(
            f"this {type(network).__name__} has no list of like blocks: which are its first half "
            "is not known"
        )
    return max(sizes, key=lambda name: sizes[name])
