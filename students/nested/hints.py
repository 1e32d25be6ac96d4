"""Hints: what layers of the dense network give on the way is learned by their counterparts too.

Logits say one thing of a row; every layer on the way says d_out more, at every position. FitNets
(arXiv 1412.6550) teach one layer through a learned map; a nested layer is as wide as the one it
took the place of, so all of them are compared, as they are:

    hint loss = mean over layers and rows of ‖z - y‖² / Var(y),

where y is what the layer of the dense network gives, z its counterpart, at each position of a row
that is no padding, and the variance is that of calibration rows about their mean: 1 is as bad as
saying the mean, whatever the layer's size.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from students.nested.calibration import call, in_evaluation, mask_of
from students.nested.errors import CalibrationError, NestedError

Heard = dict[str, list[Tensor]]  # layer -> what it gave, at each of its calls


@contextmanager
def hearing(network: nn.Module, layers: Iterable[str]) -> Iterator[Heard]:
    """Within, what these layers give is written down.

    ``NestedError`` for one that is not there, and afterwards for one whose outputs were written
    over, but by a module that says so (``inplace``): of networks that have such, copies are kept.
    """
    copied = any(getattr(module, "inplace", False) is True for module in network.modules())
    heard: Heard = {}
    versions: dict[str, list[int]] = {}

    def note(name: str, output: Tensor) -> None:
        kept = output.clone() if copied else output
        heard[name].append(kept)
        versions[name].append(kept._version)

    layers = list(layers)
    for name in layers:
        heard[name], versions[name] = [], []
    with _told(network, layers, note):
        yield heard
    for name, outputs in heard.items():
        if [output._version for output in outputs] != versions[name]:
            raise NestedError(
                f"what {name} gives is written over by what reads it, and cannot be learned; leave "
                "the layer out, or set the weight of hints to 0"
            )


@contextmanager
def _told(
    network: nn.Module, layers: Sequence[str], note: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Within, ``note`` gets the name of a layer and what it gives, at each call."""
    modules = dict(network.named_modules())
    with ExitStack() as stack:
        for name in layers:
            _known(name, modules)
            hook = modules[name].register_forward_hook(partial(_hook, partial(note, name)))
            stack.callback(hook.remove)
        yield


def _known(name: str, modules: Mapping[str, nn.Module]) -> None:
    if name not in modules:
        raise NestedError(f"no layer is called {name!r}, whose outputs are to be learned")


def _hook(note: Callable[[Tensor], None], module: nn.Module, inputs: Any, output: Tensor) -> None:
    del module, inputs
    note(output)


# --- how far what a layer gives is spread ---------------------------------------------------------


@torch.no_grad()
def hint_spreads(
    dense: nn.Module, layers: Sequence[str], batches: Sequence[Any]
) -> dict[str, float]:
    """Var(y) of each layer over the batches, a number of the output on average.

    Padded tokens do not count. Layers that give the same for all, or that no batch reaches, have
    nothing to teach, and are not among those that are found. ``CalibrationError`` for no batches,
    where no layer is left, and by its name for a layer that gives NaN or infinity.
    """
    if not batches:
        raise CalibrationError("there are no calibration batches")
    modules = dict(dense.named_modules())
    for name in layers:
        _known(name, modules)
    spreads = {name: _Spread(1 if isinstance(modules[name], nn.Conv2d) else -1) for name in layers}
    mask: Tensor | None = None

    def note(name: str, output: Tensor) -> None:
        spreads[name].add(output, mask)

    with in_evaluation(dense), _told(dense, layers, note):
        for batch in batches:
            mask = mask_of(batch)
            call(dense, batch)
    found = {name: spread.value(name) for name, spread in spreads.items()}
    kept = {name: value for name, value in found.items() if value}
    if not kept:
        raise CalibrationError(
            "every layer gives the same for all calibration rows: there are no hints to learn"
        )
    return kept


@final
class _Spread:
    """Sums over rows of d numbers, and of their squares; ``axis`` is that of the numbers."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.rows = 0
        self.sums: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, output: Tensor, mask: Tensor | None) -> None:
        counted = _counted(output, mask)
        rows = output.double() if counted is None else output[counted].double()
        flat = rows.movedim(self.axis, -1).reshape(-1, rows.shape[self.axis])
        self.rows += len(flat)
        sums, squares = flat.sum(dim=0), flat.square().sum(dim=0)
        self.sums = sums if self.sums is None else self.sums + sums
        self.squares = squares if self.squares is None else self.squares + squares

    def value(self, layer: str) -> float:
        """The variance; 0 where there is none to speak of."""
        if self.sums is None or self.squares is None or not self.rows:
            return 0.0
        mean_square = self.squares / self.rows
        found = float((mean_square - (self.sums / self.rows).square()).mean())
        if not mean_square.isfinite().all():
            raise CalibrationError(
                f"{layer}: NaN or infinity among what it gives for the calibration batches"
            )
        return found if found > 1e-12 * float(mean_square.mean()) else 0.0


@torch.no_grad()
def comparable(
    dense: nn.Module, network: nn.Module, pairs: Mapping[str, str], batch: Any
) -> dict[str, str]:
    """Those pairs of a layer of the one network and one of the other that give the same shapes."""

    def shapes(one: nn.Module, layers: Iterable[str]) -> dict[str, list[torch.Size]]:
        given: dict[str, list[torch.Size]] = {name: [] for name in layers}
        with in_evaluation(one), _told(one, list(given), lambda n, y: given[n].append(y.shape)):
            call(one, batch)
        return given

    theirs, own = shapes(dense, pairs.keys()), shapes(network, pairs.values())
    return {a: b for a, b in pairs.items() if theirs[a] and theirs[a] == own[b]}


# --- the loss -------------------------------------------------------------------------------------


def hint_loss(
    found: Mapping[str, Sequence[Tensor]],
    wanted: Mapping[str, Sequence[Tensor]],
    spreads: Mapping[str, float],
    *,
    counterparts: Mapping[str, str],
    mask: Tensor | None = None,
) -> Float[Tensor, ""]:
    """The mean over layers, and over rows, of ‖z - y‖² / Var(y) at the tokens that ``mask`` has.

    A mean over rows of their own means, so that parts of a batch add up to it. ``counterparts``
    names for a layer of the dense network, whose outputs are ``wanted`` and whose ``spreads`` are
    known, the one that gave ``found``. ``NestedError`` where one was called another number of times
    than the other, or gave another shape, and for no layers.
    """
    ones: list[Tensor] = []
    others: list[Tensor] = []
    worth: list[float] = []
    for name, own in counterparts.items():
        if [one.shape for one in found[own]] != [one.shape for one in wanted[name]]:
            raise NestedError(
                f"{own} gave {_shapes(found[own])} and {name} of the dense network "
                f"{_shapes(wanted[name])}: they cannot be compared"
            )
        calls = len(found[own])
        ones += found[own]
        others += wanted[name]
        worth += calls * [1 / (len(counterparts) * calls * spreads[name])] if calls else []
    if not ones:
        raise NestedError("hints are to be learned, and there is no layer to learn them")
    tokens = None if mask is None else mask.bool()
    loss: Tensor = _Distances.apply(others, worth, tokens, *ones)
    return loss


def _shapes(outputs: Sequence[Tensor]) -> str:
    return " and ".join(str(tuple(one.shape)) for one in outputs) or "nothing"


class _Distances(torch.autograd.Function):
    """The sum of ``worth`` times the mean square of each difference, over the tokens of ``mask``.

    One step of autograd for all layers, of a few products each. Left to autograd they are some
    twenty small ones a layer, and of a small network on a GPU such steps are most of the time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        others: Sequence[Tensor],
        worth: Sequence[float],
        mask: Tensor | None,
        *ones: Tensor,
    ) -> Tensor:
        parts, ctx.roots, sizes = [], [], []
        shares = None if mask is None else _roots(mask)
        for one, other in zip(ones, others, strict=True):
            part, root, size = one.float() - other.float(), None, max(1, one.numel())
            counted = _counted(one, mask)
            if shares is not None and counted is not None:
                part.masked_fill_(~counted[..., None], 0.0)  # of padding, whatever it holds
                root, size = shares.to(one.device).reshape(*counted.shape, 1), one.shape[-1]
                part *= root
            parts.append(part)
            ctx.roots.append(root)
            sizes.append(size)
        norms = torch.stack([torch.linalg.vector_norm(part) for part in parts])
        share = norms.new_tensor([w / size for w, size in zip(worth, sizes, strict=True)])
        ctx.save_for_backward(share, *parts)
        ctx.dtypes = [one.dtype for one in ones]
        return (norms.square() * share).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        share, *parts = ctx.saved_tensors
        found = []
        for part, root, scale, dtype in zip(
            parts, ctx.roots, (2 * given * share).unbind(), ctx.dtypes, strict=True
        ):
            step = part * scale
            found.append((step if root is None else step.mul_(root)).to(dtype))
        return None, None, None, *found


def _roots(mask: Tensor) -> Float[Tensor, "rows tokens"]:
    """The square root of each token's share: a row counts as much as another, however long."""
    counts = mask.sum(dim=1, keepdim=True).clamp_min(1) * len(mask)
    return counts.float().rsqrt().expand(mask.shape)


def _counted(output: Tensor, mask: Tensor | None) -> Bool[Tensor, "..."] | None:
    """The mask in the shape of (rows, tokens, d) or (rows · tokens, d); None of other outputs."""
    if mask is not None and output.ndim == 3 and output.shape[:2] == mask.shape:
        return mask.to(output.device)
    if mask is not None and output.ndim == 2 and len(output) == mask.numel():
        return mask.to(output.device).flatten()
    return None
