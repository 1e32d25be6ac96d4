"""Hints: what layers of the dense network give on the way is learned by their counterparts too.

Logits say one thing of a row; every layer on the way says d_out more, at every position. FitNets
(arXiv 1412.6550) teach one layer through a learned map; a nested layer is as wide as the one it
took the place of, so all of them are compared, as they are:

    hint loss = mean over layers of E‖z - y‖² / Var(y),

where y is what the layer of the dense network gives, z its counterpart, and the variance is that of
calibration rows about their mean: 1 is as bad as saying the mean, whatever the layer's size.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from students.nested.calibration import call, in_evaluation, mask_of
from students.nested.errors import CalibrationError, NestedError

Heard = dict[str, list[Tensor]]  # layer -> what it gave, at each of its calls


@contextmanager
def hearing(network: nn.Module, layers: Iterable[str]) -> Iterator[Heard]:
    """Within, what these layers give is written down; ``NestedError`` for one that is not there."""
    modules = dict(network.named_modules())
    heard: Heard = {}
    with ExitStack() as stack:
        for name in layers:
            if name not in modules:
                raise NestedError(f"no layer is called {name!r}, whose outputs are to be learned")
            heard[name] = []
            hook = modules[name].register_forward_hook(partial(_note, heard[name]))
            stack.callback(hook.remove)
        yield heard


def _note(calls: list[Tensor], module: nn.Module, inputs: Any, output: Tensor) -> None:
    del module, inputs
    calls.append(output)


@torch.no_grad()
def hint_spreads(
    dense: nn.Module, layers: Sequence[str], batches: Sequence[Any]
) -> dict[str, float]:
    """Var(y) of each layer over the batches, a number of the output on average.

    Padded tokens do not count. ``CalibrationError`` for no batches, and by its name for a layer
    that gives NaN, nothing at all, or always the same.
    """
    if not batches:
        raise CalibrationError("there are no calibration batches")
    spreads = {name: _Spread() for name in layers}
    with in_evaluation(dense):
        for batch in batches:
            mask = mask_of(batch)
            with hearing(dense, layers) as heard:
                call(dense, batch)
            for name, outputs in heard.items():
                channels = 1 if isinstance(dense.get_submodule(name), nn.Conv2d) else -1
                for output in outputs:
                    spreads[name].add(_kept(output, mask).double().movedim(channels, -1))
    return {name: spread.value(name) for name, spread in spreads.items()}


@torch.no_grad()
def comparable(
    dense: nn.Module, network: nn.Module, pairs: Mapping[str, str], batch: Any
) -> dict[str, str]:
    """Those pairs of a layer of the one network and one of the other that give the same shapes."""
    shapes = []
    for one, layers in ((dense, pairs.keys()), (network, pairs.values())):
        with in_evaluation(one), hearing(one, layers) as heard:
            call(one, batch)
        shapes.append({name: [tuple(y.shape) for y in given] for name, given in heard.items()})
    return {
        name: own
        for name, own in pairs.items()
        if shapes[0][name] and shapes[0][name] == shapes[1][own]
    }


@final
class _Spread:
    """Sums over rows of d numbers, and of their squares."""

    def __init__(self) -> None:
        self.rows = 0
        self.sums: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, rows: Float[Tensor, "*rows d"]) -> None:
        flat = rows.reshape(-1, rows.shape[-1])
        self.rows += len(flat)
        sums, squares = flat.sum(dim=0), flat.square().sum(dim=0)
        self.sums = sums if self.sums is None else self.sums + sums
        self.squares = squares if self.squares is None else self.squares + squares

    def value(self, layer: str) -> float:
        if self.sums is None or self.squares is None or not self.rows:
            raise CalibrationError(f"{layer}: no calibration batch reaches this layer")
        mean_square = self.squares / self.rows
        found = float((mean_square - (self.sums / self.rows).square()).mean())
        if not found > 1e-12 * float(mean_square.mean()):  # NaN is not above anything
            raise CalibrationError(
                f"{layer}: it gives the same, or NaN, for every calibration row, so that there is "
                "nothing to compare with; leave it out, or set the hint weight to 0"
            )
        return found


def hint_loss(
    found: Mapping[str, Sequence[Tensor]],
    wanted: Mapping[str, Sequence[Tensor]],
    spreads: Mapping[str, float],
    *,
    counterparts: Mapping[str, str],
    mask: Tensor | None = None,
) -> Float[Tensor, ""]:
    """The mean over layers of E‖z - y‖² / Var(y), over the tokens that ``mask`` has.

    ``counterparts`` names for a layer of the dense network, whose outputs are ``wanted`` and whose
    ``spreads`` are known, the one that gave ``found``. ``NestedError`` where one was called another
    number of times than the other, or gave another shape.
    """
    losses = []
    for name, own in counterparts.items():
        if [one.shape for one in found[own]] != [one.shape for one in wanted[name]]:
            raise NestedError(
                f"{own} gave {_shapes(found[own])} and {name} of the dense network "
                f"{_shapes(wanted[name])}: they cannot be compared"
            )
        for one, other in zip(found[own], wanted[name], strict=True):
            difference = _kept(one, mask).float() - _kept(other, mask).float()
            losses.append(difference.square().mean() / spreads[name])
    if not losses:
        raise NestedError("hints are to be learned, and there is no layer to learn them")
    return torch.stack(losses).mean()


def _shapes(outputs: Sequence[Tensor]) -> str:
    return " and ".join(str(tuple(one.shape)) for one in outputs) or "nothing"


def _kept(output: Tensor, mask: Tensor | None) -> Tensor:
    """What the mask does not hide of (rows, tokens, d) or (rows · tokens, d); else all of it."""
    if mask is not None and output.ndim == 3 and output.shape[:2] == mask.shape:
        return output[mask.to(output.device)]
    if mask is not None and output.ndim == 2 and len(output) == mask.numel():
        return output[mask.to(output.device).flatten()]
    return output
