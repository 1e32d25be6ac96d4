"""BatchNorm statistics of a budget: at lower ranks its inputs have another mean and variance.

``measure_norms`` finds them at the ranks of here and now; one ``NormStatistics`` is kept for each
budget. ``load_norms`` puts them into the network, as ``set_rank`` does with ranks; ``using_norms``
lets the calls of one thread and task have them, as ``using_ranks`` does.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from students.nested.calibration import call, in_evaluation
from students.nested.errors import CalibrationError, OtherSurgeryError

Statistics = tuple[Tensor, Tensor]  # running mean and variance, (channels,) each


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NormStatistics:
    """Running mean and variance of each BatchNorm, by its name."""

    of: Mapping[str, Statistics]

    def tensors(self) -> dict[str, Tensor]:
        """For a file of tensors: ``<name>.mean`` and ``<name>.variance``."""
        both = {name: dict(zip(_PARTS, pair, strict=True)) for name, pair in self.of.items()}
        return {
            f"{name}.{part}": tensor for name, of in both.items() for part, tensor in of.items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "NormStatistics":
        """Undo ``tensors``; ``KeyError`` for a mean without its variance."""
        names = [name.removesuffix(".mean") for name in tensors if name.endswith(".mean")]
        return cls(of={n: (tensors[f"{n}.mean"], tensors[f"{n}.variance"]) for n in names})


_PARTS = ("mean", "variance")
_ASKED: ContextVar[Mapping[nn.Module, Statistics] | None] = ContextVar("norms", default=None)
_READY = threading.Lock()


def measure_norms(network: nn.Module, batches: Iterable[Any]) -> NormStatistics:
    """Mean and unbiased variance over all rows (and positions) of what each BatchNorm reads.

    Each norms by the batch's own statistics meanwhile, as in training, and everything else runs in
    evaluation; the network's own statistics stay as they were. All rows weigh alike, whatever the
    sizes of batches. A network without BatchNorm gives none, and no batch is read.

    ``CalibrationError`` for no batches, and by its name for a norm that sees fewer than 2 numbers
    of a channel in a batch, NaN or infinity.
    """
    norms = _norms(network)
    gathered = {name: _Gathered(name) for name in norms}
    with ExitStack() as stack:
        stack.enter_context(in_evaluation(network))
        for name, norm in norms.items():
            stack.enter_context(_kept(norm))
            norm.training = True
            stack.callback(norm.register_forward_pre_hook(gathered[name]).remove)
        for batch in batches if norms else ():
            call(network, batch)
    return NormStatistics(of={n: gathered[n].statistics(norms[n]) for n in norms})


def held_norms(network: nn.Module) -> NormStatistics:
    """A copy of the statistics that the network has; none without BatchNorm."""
    return NormStatistics(
        of={
            name: (cast(Tensor, norm.running_mean).clone(), cast(Tensor, norm.running_var).clone())
            for name, norm in _norms(network).items()
        }
    )


def load_norms(network: nn.Module, statistics: NormStatistics) -> None:
    """Make these the network's own. ``OtherSurgeryError`` where the norms are others; all or none.

    Not for a network that serves other requests meanwhile: they take ``using_norms``.
    """
    for norm, (mean, variance) in _matched(network, statistics).items():
        cast(Tensor, norm.running_mean).copy_(mean)
        cast(Tensor, norm.running_var).copy_(variance)


def check_norms(network: nn.Module, statistics: NormStatistics) -> None:
    """``OtherSurgeryError`` for statistics of other norms than the network's."""
    _matched(network, statistics)


def settle_norms(copies: Mapping[int, Any]) -> None:
    """Give copies of norms for good what the norms have here and now (``using_norms``).

    ``copies`` holds them by the ids of what they are copies of, as the memo of a deep copy does.
    """
    for norm, (mean, variance) in (_ASKED.get() or {}).items():
        if id(norm) in copies:
            copy = cast(_BatchNorm, copies[id(norm)])
            cast(Tensor, copy.running_mean).copy_(mean)
            cast(Tensor, copy.running_var).copy_(variance)


@contextmanager
def using_norms(network: nn.Module, statistics: NormStatistics) -> Iterator[None]:
    """Let evaluation inside the block, in this thread and task alone, use these statistics.

    What a norm reads is moved so that its own statistics, which stay, make of it what these would:
    one pass more over its input. ``OtherSurgeryError`` as ``load_norms``.
    """
    chosen = _matched(network, statistics)
    with _READY:
        for norm in chosen:
            if _moved not in norm._forward_pre_hooks.values():
                norm.register_forward_pre_hook(_moved)
    token = _ASKED.set({**(_ASKED.get() or {}), **chosen})
    try:
        yield
    finally:
        _ASKED.reset(token)


def _moved(norm: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """(x - m') √(v + ε) / √(v' + ε) + m, for a norm of m and v asked for m' and v'."""
    asked = (_ASKED.get() or {}).get(norm)
    if asked is None or norm.training:
        return None
    inputs, *rest = args
    own = cast(_BatchNorm, norm)
    shape = (1, -1) + (1,) * (inputs.ndim - 2)
    own_mean, own_variance = cast(Tensor, own.running_mean), cast(Tensor, own.running_var)
    mean, variance = (tensor.to(own_mean) for tensor in asked)
    scale = ((own_variance + own.eps) / (variance + own.eps)).sqrt()
    shift = own_mean - mean * scale
    moved = torch.addcmul(shift.view(shape).to(inputs), inputs, scale.view(shape).to(inputs))
    return (moved, *rest)


def _norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """The norms that keep statistics."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def _matched(network: nn.Module, statistics: NormStatistics) -> dict[nn.Module, Statistics]:
    norms = _norms(network)
    for name in sorted(norms.keys() ^ statistics.of.keys()):
        where = "network" if name in norms else "statistics"
        raise OtherSurgeryError(
            f"the statistics are of another network: BatchNorm {name!r} is in the {where} alone"
        )
    for name, norm in norms.items():
        widths = len(statistics.of[name][0]), norm.num_features
        if widths[0] != widths[1]:
            raise OtherSurgeryError(
                f"{name}: the statistics are of {widths[0]} channels and the BatchNorm has "
                f"{widths[1]}"
            )
    return {norms[name]: statistics.of[name] for name in norms}


@contextmanager
def _kept(norm: _BatchNorm) -> Iterator[None]:
    """The norm's statistics are afterwards what they were."""
    held = [(buffer, buffer.clone()) for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, was in held:
            buffer.copy_(was)


class _Gathered:
    """A hook before one norm that sums over each channel of what the norm reads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.sums: Float64[Tensor, "2 channels"] | None = None  # of x - c and of (x - c)²
        self.centre: Tensor | None = None

    def __call__(self, norm: nn.Module, args: tuple[Any, ...]) -> None:  # noqa: ARG002
        rows: Tensor = args[0].transpose(0, 1).flatten(1).double()  # (channels, numbers)
        if rows.shape[1] < 2:
            raise CalibrationError(
                f"{self.name}: a batch with one number of a channel has no variance; calibrate on "
                f"batches of 2 rows at least"
            )
        if self.centre is None:
            self.centre = rows.mean(1, keepdim=True)  # sums about it lose no digits to the mean
        apart = rows - self.centre
        sums = torch.stack([apart.sum(1), apart.square().sum(1)])
        self.sums = sums if self.sums is None else self.sums + sums
        self.count += rows.shape[1]

    def statistics(self, norm: _BatchNorm) -> Statistics:
        """Mean and variance in the norm's own dtype."""
        if self.sums is None or self.centre is None:
            raise CalibrationError(f"{self.name}: no calibration batch reaches this BatchNorm")
        if not self.sums.isfinite().all():
            raise CalibrationError(
                f"{self.name}: NaN or infinity among what it reads from the calibration batches"
            )
        shift = self.sums[0] / self.count
        variance = (self.sums[1] - self.count * shift.square()) / (self.count - 1)
        like = cast(Tensor, norm.running_mean)
        return (self.centre[:, 0] + shift).to(like), variance.clamp(min=0).to(like)
