"""What the inputs of layers look like: second moments over calibration batches, in one pass.

A batch is what the network takes: a mapping (called with ``**``), a tuple or list (with ``*``) or a
tensor. Batches are read one after the other and forgotten. What is held is d_in² numbers of 8 bytes
a layer (k² of inputs seen through k directions), summed in float64 on the device of the inputs: for
the MLP blocks of BERT-base 0.96 GB, through 768 directions 0.11 GB. Who has less memory asks for a
few layers at a time.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional

from students.errors import nearest
from students.nested.errors import CalibrationError

MASK = "attention_mask"
_PATCH_BYTES = 1 << 26  # of patches unfolded at once: a convolution's inputs grow k²-fold


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """Of ``rows`` inputs x: ``sums`` Σ x xᵀ (d_in, d_in), or how often each token came (d_in,)."""

    rows: int
    sums: Float64[Tensor, "d_in d_in"] | Float64[Tensor, " d_in"]

    @property
    def mean(self) -> Tensor:
        """E[x xᵀ], or its diagonal for one-hot inputs."""
        return self.sums / self.rows


def call(network: nn.Module, batch: Any) -> Any:
    """Run the network on a batch; ``CalibrationError`` for one that is nothing to call it with."""
    if isinstance(batch, Tensor):
        return network(batch)
    if isinstance(batch, Mapping):
        return network(**batch)
    if isinstance(batch, tuple | list):
        return network(*batch)
    raise CalibrationError(
        f"a batch is a tensor, or a mapping or a tuple of them, got a {type(batch).__name__}"
    )


@contextmanager
def in_evaluation(network: nn.Module) -> Iterator[None]:
    """All modules in evaluation inside, each as it was after; no gradients."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def second_moments(
    network: nn.Module,
    layers: Iterable[str],
    batches: Iterable[Any],
    *,
    through: Mapping[str, Float64[Tensor, "_ _"]] = MappingProxyType({}),
) -> dict[str, Moment]:
    """Moments of what these layers read when the network runs in evaluation on the batches.

    Rows are the inputs of linear layers whatever their leading axes, a convolution's patches at
    every output position with their zero padding, and tokens, as one-hot rows. Where a batch (or a
    mapping in it) has an ``attention_mask`` of (rows, tokens), tokens of mask 0 do not count in
    inputs of (rows, tokens, d_in) or (rows · tokens, d_in); other inputs count whole. Of a layer
    named in ``through``, whose columns are k directions (d_in, k), the moments are those of xᵀ
    ``through``, (k, k).

    ``CalibrationError`` for no batches, and by its name for a layer that is not there, that reads
    nothing, or that reads NaN or infinity (the first one on the way that does).
    """
    modules = dict(network.named_modules())
    gatherers: dict[str, _Gatherer] = {}
    order = itertools.count()
    with ExitStack() as stack:
        for name in layers:
            if name not in modules:
                raise CalibrationError(f"no layer is called {name!r}{nearest(name, modules)}")
            gatherers[name] = _Gatherer(order, through.get(name))
            hook = modules[name].register_forward_pre_hook(gatherers[name], with_kwargs=True)
            stack.callback(hook.remove)
        stack.enter_context(in_evaluation(network))
        calls = 0
        for batch in batches:
            mask = mask_of(batch)
            for gatherer in gatherers.values():
                gatherer.mask = mask
            call(network, batch)
            calls += 1
    if not calls:
        raise CalibrationError("there are no calibration batches")
    # in the order of their first calls: what comes after NaN is NaN too
    found = sorted(gatherers.items(), key=lambda item: item[1].first)
    return {name: gatherer.moment(name) for name, gatherer in found}


class _Gatherer:
    """A hook before one layer that sums over what the layer reads."""

    def __init__(self, order: Iterator[int], through: Tensor | None) -> None:
        self.order = order
        self.through = through
        self.first = -1  # its place among the layers by their first calls
        self.rows = 0
        self.sums: Tensor | None = None
        self.mask: Tensor | None = None  # of the batch that is under way

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.first < 0:
            self.first = next(self.order)
        (inputs,) = args or tuple(kwargs.values())
        if isinstance(layer, nn.Embedding):
            self._count(self._kept(inputs, inputs.ndim).flatten(), layer.num_embeddings)
        elif isinstance(layer, nn.Conv2d):
            for rows in _patches(inputs, layer):
                self._add(rows)
        else:
            self._add(self._kept(inputs, inputs.ndim - 1).reshape(-1, inputs.shape[-1]))

    def _kept(self, inputs: Tensor, axes: int) -> Tensor:
        """What the mask does not hide, where it is a mask of these inputs' ``axes`` first axes."""
        mask = self.mask
        if mask is not None and axes == 2 and inputs.shape[:2] == mask.shape:
            return inputs[mask.to(inputs.device)]
        if mask is not None and axes == 1 and len(inputs) == mask.numel():
            return inputs[mask.to(inputs.device).flatten()]
        return inputs

    def _add(self, rows: Float[Tensor, "rows d_in"]) -> None:
        wide = rows.double()
        if self.through is not None:
            wide = wide @ self.through.to(wide.device)
        if self.sums is None:
            width = wide.shape[1]
            self.sums = torch.zeros(width, width, dtype=torch.float64, device=wide.device)
        self.sums.addmm_(wide.T, wide)
        self.rows += len(wide)

    def _count(self, tokens: Int64[Tensor, " rows"], vocabulary: int) -> None:
        counts = torch.bincount(tokens, minlength=vocabulary).double()
        self.sums = counts if self.sums is None else self.sums + counts
        self.rows += len(tokens)

    def moment(self, layer: str) -> Moment:
        """What was gathered, if it says anything."""
        if self.sums is None or not self.rows:
            raise CalibrationError(
                f"{layer}: no calibration batch reaches this layer; leave it out, or calibrate on "
                f"batches that do"
            )
        # one NaN or infinity among the inputs reaches its place on the diagonal
        seen = self.sums if self.sums.ndim == 1 else self.sums.diagonal()
        if not seen.isfinite().all():
            raise CalibrationError(
                f"{layer}: NaN or infinity among what it reads from the calibration batches; look "
                f"at the batches, and at the layers before it"
            )
        return Moment(rows=self.rows, sums=self.sums)


def _patches(inputs: Tensor, layer: nn.Conv2d) -> Iterator[Float[Tensor, "rows d_in"]]:
    """A convolution's patches as rows, in the order of its flattened weight, a few at a time."""
    images = inputs if inputs.ndim == 4 else inputs[None]
    d_in = layer.weight[0].numel()
    at_once = max(1, _PATCH_BYTES // (8 * d_in * images[0, 0].numel()))
    for some in torch.split(images, at_once):
        padded = functional.pad(some, layer._reversed_padding_repeated_twice)
        found = functional.unfold(
            padded, layer.kernel_size, dilation=layer.dilation, stride=layer.stride
        )
        yield found.transpose(1, 2).reshape(-1, d_in)


def mask_of(batch: Any) -> Tensor | None:
    """The (rows, tokens) mask in a batch, or in the first mapping in it; None if there is none."""
    held = (
        [batch] if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else []
    )
    masks = [part.get(MASK) for part in held if isinstance(part, Mapping)]
    mask = masks[0] if masks else None
    return mask.bool() if mask is not None and mask.ndim == 2 else None
