"""Counting FLOPs, two a multiply-add: products of matrices, convolutions, and attention as well."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


class _Nowhere(nullcontext[None]):
    """Says of every operation that it is in the whole alone."""

    parents = frozenset({"Global"})


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count what runs inside, attention and fused encoder layers with it on every device."""
    counter = FlopCounterMode(display=False)
    # it would follow modules by gradients of what they are given, and stumbles over parameters
    counter.mod_tracker = _Nowhere()  # type: ignore[assignment]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused forms have no formula, nor have
    try:
        # the attention kernels of a CPU: products of matrices have
        with sdpa_kernel(SDPBackend.MATH), counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
