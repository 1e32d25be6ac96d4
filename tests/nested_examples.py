"""Nested layers of known factors, and what they are held against."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from students.nested.base import NestedLayer
from students.nested.kinds import matrix_of, nested
from students.nested.layers import NestedConv2d, NestedLinear


def drawn(seed: int, *shape: int) -> Tensor:
    """Normal numbers of this seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def svd_factors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """U S^½ and S^½ Vᵀ."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    root = values.sqrt()
    return (left * root).float(), (root[:, None] * right).float()


def nested_of(layer: nn.Module) -> NestedLayer:
    """The nested layer that is the plain one at its full rank."""
    return nested(layer, *svd_factors(matrix_of(layer)))


def linear(d_in: int, d_out: int, rank: int, *, seed: int = 0) -> NestedLinear:
    up, down = drawn(seed, d_out, rank), drawn(seed + 1, rank, d_in)
    return NestedLinear.from_factors(up, down, drawn(seed + 2, d_out))


def conv(channels: int, d_out: int, rank: int, kernel: Any, **settings: Any) -> NestedConv2d:
    like = nn.Conv2d(channels, d_out, kernel, **settings)
    down = drawn(1, rank, channels * math.prod(like.kernel_size))
    return NestedConv2d.from_factors(drawn(0, d_out, rank), down, drawn(2, d_out), like=like)


def flops(call: Callable[[], Any]) -> int:
    """FLOPs of torch's own count."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the operations that run inside the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def assert_near(found: Tensor, expected: Tensor | np.ndarray, tolerance: float) -> None:
    """Within ``tolerance`` of the largest number that is expected."""
    want = np.asarray(expected if isinstance(expected, np.ndarray) else expected.detach().numpy())
    have = found.detach().float().numpy()
    np.testing.assert_allclose(have, want, rtol=0, atol=tolerance * np.abs(want).max())


class Mlp(nn.Module):
    """Two nested layers and a plain one."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.fc1 = linear(6, width, 6, seed=10)
        self.fc2 = linear(width, 6, 6, seed=20)
        self.head = nn.Linear(6, 3)
        with torch.no_grad():
            self.head.weight.copy_(drawn(30, 3, 6))
            self.head.bias.copy_(drawn(31, 3))

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.head(rows + self.fc2(torch.tanh(self.fc1(rows))))
        return found
