"""Measure what a classifier costs: parameters, multiply-adds of one input, time of a call.

Multiply-adds are half the FLOPs that torch counts: convolutions, matrix products and attention.
Element-wise work, normalisation, pooling and look-ups are not counted; an operation that does
real work and has no formula (a recurrent layer, say) is named in the notes.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from distill.findings import Cost, Latency
from students import counting

Inputs = torch.Tensor | Mapping[str, torch.Tensor]

BATCHES = (1, 64)
REPEATS = 30
SECONDS = 3.0  # at most this long at one batch size, as long as one call takes less
WARM_UP = 2  # calls that are not timed: they allocate, choose kernels, fill caches

# heavy operations that torch has no FLOP formula for, by the start of their name
UNCOUNTED = (
    "mkldnn_rnn_layer", "_cudnn_rnn", "_thnn_fused", "lstm", "gru", "rnn_", "_fft", "_cdist",
    "_transformer_encoder_layer_fwd", "_native_multi_head_attention", "grid_sampler",
    "quantized_", "_embedding_bag", "deform_conv2d", "mkldnn_linear",
)  # fmt: skip


def measure(
    name: str,
    role: str,
    module: nn.Module,
    inputs: Inputs,
    *,
    device: str,
    bytes_on_disk: int = 0,
    batches: Sequence[int] = BATCHES,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
) -> Cost:
    """Count and time one classifier.

    ``inputs`` are what the module reads, one or more rows of it; they are repeated to fill a
    batch. The module is put into eval mode on ``device`` and given back in the mode it was in.
    ``bytes_on_disk`` is the size of its files; 0 takes the bytes of its parameters and buffers,
    which is what a safetensors file of them holds. Raises ``ValueError`` for inputs without rows.
    """
    if _rows(inputs) < 1:
        raise ValueError(f"measuring {name} needs at least one input, got none")
    one = _on(_tiled(inputs, 1), device)
    with _evaluating(module.to(device)):
        adds, uncounted = count_multiply_adds(module, one)
        latencies = tuple(
            Latency(
                batch=batch,
                seconds=_median_seconds(
                    module, _on(_tiled(inputs, batch), device), device, repeats, seconds
                ),
                device=device,
            )
            for batch in batches
        )
    return Cost(
        name=name,
        role=role,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        multiply_adds=adds,
        bytes_on_disk=bytes_on_disk or state_bytes(module),
        latencies=latencies,
        notes=_notes(role, one, device, uncounted),
    )


def measure_head(
    name: str,
    weight: Float32[np.ndarray, "classes dim"],
    bias: Float32[np.ndarray, " classes"],
    *,
    device: str = "cpu",
    bytes_on_disk: int = 0,
    batches: Sequence[int] = BATCHES,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
) -> Cost:
    """Count and time a linear head on features that are already there, ``dim`` of them."""
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    rows = torch.linspace(-1, 1, weight.shape[1]).unsqueeze(0)
    return measure(
        name, "head", head, rows,
        device=device, bytes_on_disk=bytes_on_disk, batches=batches, repeats=repeats,
        seconds=seconds,
    )  # fmt: skip


def state_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers that are saved with the module, shared ones once."""
    tensors = {tensor.data_ptr(): tensor for tensor in module.state_dict().values()}
    return sum(tensor.nbytes for tensor in tensors.values())


def count_multiply_adds(module: nn.Module, inputs: Inputs) -> tuple[int, tuple[str, ...]]:
    """Multiply-adds of one call, and the names of heavy operations it could not count.

    Fused attention is switched off for the count, since the fused form has no formula.
    """
    seen: set[str] = set()
    with torch.no_grad(), _Names(seen), counting() as counter:
        module(inputs)
    uncounted = sorted(name for name in seen if name.startswith(UNCOUNTED))
    return counter.get_total_flops() // 2, tuple(uncounted)


class _Names(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook is untyped
    """Collects the names of all operations that run."""

    def __init__(self, seen: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        self.seen.add(func._schema.name.partition("::")[2])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _median_seconds(
    module: nn.Module, inputs: Inputs, device: str, repeats: int, seconds: float
) -> float:
    """Median of up to ``repeats`` calls within ``seconds``; at least one is timed."""
    times: list[float] = []
    begun = time.perf_counter()
    with torch.inference_mode():
        for call in range(WARM_UP + repeats):
            start = time.perf_counter()
            module(inputs)
            _wait(device)
            stop = time.perf_counter()
            late = stop - begun > seconds
            if call >= WARM_UP or late:
                times.append(stop - start)
            if late:
                break
    return statistics.median(times)


def _wait(device: str) -> None:
    """Calls to an accelerator return before the work is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _rows(inputs: Inputs) -> int:
    tensors = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs.values())
    return min((len(tensor) for tensor in tensors), default=0)


def _tiled(inputs: Inputs, batch: int) -> Inputs:
    """The first rows, repeated until there are ``batch`` of them."""
    if not isinstance(inputs, torch.Tensor):
        return {name: _tiled_rows(tensor, batch) for name, tensor in inputs.items()}
    return _tiled_rows(inputs, batch)


def _tiled_rows(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    return tensor[torch.arange(batch) % len(tensor)]


def _on(inputs: Inputs, device: str) -> Inputs:
    if isinstance(inputs, torch.Tensor):
        return inputs.to(device)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _notes(role: str, one: Inputs, device: str, uncounted: Sequence[str]) -> tuple[str, ...]:
    threads = f"{device} with {torch.get_num_threads()} threads" if device == "cpu" else device
    notes = [f"timed on {threads}, on repeated inputs"]
    if role != "head":  # a head reads its k features, as its row says
        named = {"": one} if isinstance(one, torch.Tensor) else one
        shapes = [_shape(name, tensor) for name, tensor in named.items()]
        notes.append(f"one input is {', '.join(shapes)}")
    if uncounted:
        notes.append(f"multiply-adds leave out {', '.join(uncounted)}")
    return tuple(notes)


def _shape(name: str, tensor: torch.Tensor) -> str:
    """Name the sizes of one row: pixel_values 3×224×224."""
    sizes = "×".join(map(str, tensor.shape[1:])) or "1"
    return f"{name} {sizes}".strip()
