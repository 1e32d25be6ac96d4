"""Width nesting: MLP blocks of which only the first hidden units run (MatFormer, arXiv 2310.07707).

The rival of nested ranks. Of a block W2 act(W1 x + b1) + b2 with H hidden units, width m runs rows
1..m of W1 and columns 1..m of W2: 2 m (d_in + d_out) FLOPs a row. Units are first put in the order
of what they add to the output, E[h_j²] ‖W2[:, j]‖² over calibration batches, so that the first are
worth most; that changes nothing at full width. Gated blocks cut both of their first layers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from students.nested.calibration import call, in_evaluation, second_moments
from students.nested.errors import BudgetError, RankError, SurgeryError
from students.nested.sensitivity import logits_of
from students.nested.training import averaged
from students.recipe import Evaluation

# Names of the first layers of a block -> that of its last, what stands before them the same.
PAIRS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("mlp.fc1",), "mlp.fc2"),  # ViT and DeiT of timm
    (("intermediate.dense",), "output.dense"),  # BERT, ViT of transformers
    (("ffn.lin1",), "ffn.lin2"),  # DistilBERT
    (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),  # Llama
    (("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"),  # GPT-NeoX
    (("mlp.0",), "mlp.3"),  # ViT of torchvision
)
TOLERANCE = 1e-3  # of the largest output: units in another order add up in another order


@final
class CutLinear(nn.Module):
    """A linear layer of whose outputs only the first ``units`` are there."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.units = self.hidden = plain.out_features

    def forward(self, inputs: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows units"]:
        """As the plain layer, cut."""
        bias = None if self.bias is None else self.bias[: self.units]
        return functional.linear(inputs, self.weight[: self.units], bias)

    def extra_repr(self) -> str:
        """Its width and the largest."""
        return f"units={self.units} of {self.hidden}"


@final
class FollowingLinear(nn.Module):
    """A linear layer that reads as many inputs as come: the first columns of its weight."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, inputs: Float[Tensor, "*rows units"]) -> Float[Tensor, "*rows d_out"]:
        """As the plain layer, of the columns that there are inputs for."""
        return functional.linear(inputs, self.weight[:, : inputs.shape[-1]], self.bias)


def nest_widths(network: nn.Module, batches: Sequence[Any]) -> tuple[str, ...]:
    """Nest the widths of all MLP blocks in place, and give the names of their last layers.

    ``batches`` are what the network takes, as calibration (``second_moments``). ``SurgeryError``
    for a network without blocks that it knows, and where hidden units do not stand alone (a norm
    between the two layers): that is found by running the first batch before and after, and leaves
    a network of no use.
    ``CalibrationError`` for no batches.
    """
    blocks = mlp_blocks(network)
    moments = second_moments(network, list(blocks), batches)
    with in_evaluation(network):
        before = logits_of(call(network, batches[0]))
    for last, firsts in blocks.items():
        energy = moments[last].sums.diagonal()
        _order(network, last, firsts, worth=energy)
    with in_evaluation(network):
        after = logits_of(call(network, batches[0]))
    if (after - before).abs().max() > TOLERANCE * before.abs().max():
        raise SurgeryError(
            "the hidden units of these MLP blocks do not stand alone: in another order they give "
            "something else; their widths cannot be nested"
        )
    for last, firsts in blocks.items():
        for name in firsts:
            _replace(network, name, CutLinear)
        _replace(network, last, FollowingLinear)
    return tuple(blocks)


def mlp_blocks(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Last layer of each MLP block -> its first ones; ``SurgeryError`` for a network without."""
    linear = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    found: dict[str, tuple[str, ...]] = {}
    for firsts, last in PAIRS:
        for name in linear:
            if not re.search(rf"(^|\.){re.escape(last)}$", name):
                continue
            before = name.removesuffix(last)
            names = tuple(before + first for first in firsts)
            hidden = {linear[each].out_features for each in names if each in linear}
            if all(each in linear for each in names) and hidden == {linear[name].in_features}:
                found[name] = names
    if not found:
        known = ", ".join(f"{' and '.join(firsts)} before {last}" for firsts, last in PAIRS)
        raise SurgeryError(
            f"no MLP block of this {type(network).__name__} is known: widths are nested of {known}"
        )
    return {name: found[name] for name in linear if name in found}


# --- widths ---------------------------------------------------------------------------------------


def widest(network: nn.Module) -> int:
    """Hidden units of the widest block; ``RankError`` for a network without nested widths."""
    return max(layer.hidden for layer in _cut(network))


def set_width(network: nn.Module, units: int) -> None:
    """Let the widest block run ``units`` of its hidden units, and the others the same share.

    ``RankError`` for units outside 1 .. the widest, and a network without nested widths.
    """
    most = widest(network)
    if not 1 <= units <= most:
        raise RankError(f"a width is in 1..{most}, got {units}")
    for layer in _cut(network):
        layer.units = _share_of(layer.hidden, units, most)


def width_within(
    network: nn.Module, budget: float, share: Callable[[int], float], *, floor: float
) -> int:
    """Most units whose share of dense FLOPs is within the budget, as ``share`` says of each.

    ``share`` rises with the units, and is ``floor`` at 1. ``BudgetError`` below that.
    """
    if budget < floor - 1e-9:
        raise BudgetError(
            f"a budget of {budget:g} is below what widths of MLP blocks can reach: {floor:.4f}"
        )
    low, high = 1, widest(network) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share(middle) <= budget + 1e-9 else (low, middle)
    return low


def spare_parameters(network: nn.Module, units: int) -> int:
    """How many parameters a network that is cut to this width once and for all does without."""
    most, spare = widest(network), 0
    for layer in network.modules():
        if isinstance(layer, CutLinear):
            cut = layer.hidden - _share_of(layer.hidden, units, most)
            spare += cut * (layer.weight.shape[1] + (layer.bias is not None))
        elif isinstance(layer, FollowingLinear):
            d_out, hidden = layer.weight.shape
            spare += d_out * (hidden - _share_of(hidden, units, most))
    return spare


def evaluate_widths(
    network: nn.Module,
    settings: Mapping[str, int],
    evaluate: Callable[[nn.Module], Evaluation],
) -> Evaluation:
    """The mean over widths, and the figures of each by its name; full width is left behind."""
    found = {}
    try:
        for name, units in settings.items():
            set_width(network, units)
            found[name] = evaluate(network)
    finally:
        set_width(network, widest(network))
    return averaged(found)


def _share_of(hidden: int, units: int, most: int) -> int:
    """Units of a block of ``hidden`` where the widest, of ``most``, runs ``units``."""
    return max(1, round(units * hidden / most))


def _cut(network: nn.Module) -> list[CutLinear]:
    found = [layer for layer in network.modules() if isinstance(layer, CutLinear)]
    if not found:
        raise RankError(f"the network ({type(network).__name__}) has no nested widths")
    return found


# --- surgery --------------------------------------------------------------------------------------


@torch.no_grad()
def _order(
    network: nn.Module, last: str, firsts: Sequence[str], *, worth: Float[Tensor, " hidden"]
) -> None:
    """Put the hidden units of a block in the order of what they add to its output."""
    down = network.get_submodule(last).get_parameter("weight")
    added = worth.to(down.device) * down.double().square().sum(dim=0)
    order: Int64[Tensor, " hidden"] = added.argsort(descending=True, stable=True)
    down.copy_(down[:, order])
    for name in firsts:
        for parameter in network.get_submodule(name).parameters():
            parameter.copy_(parameter[order])


def _replace(network: nn.Module, name: str, kind: Callable[[nn.Linear], nn.Module]) -> None:
    parent, _, own = name.rpartition(".")
    plain = network.get_submodule(name)
    if not isinstance(plain, nn.Linear):
        raise SurgeryError(f"{name} is no linear layer")
    setattr(network.get_submodule(parent), own, kind(plain).train(plain.training))
