"""The exponential average of a network's weights over its steps: steadier than the last of them.

After step t (from 1) the average moves towards the weights w by

    a <- d a + (1 - d) w,    d = min(decay, (1 + t) / (10 + t))

so that it forgets the random weights it starts from within some tens of steps, whatever the decay.
Only what is learned is averaged. Buffers are not: the running statistics of BatchNorm are
averages already, and are taken as they are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The averaged weights of one network, on its device."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        learned = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self._decay = decay
        self._names = list(learned)
        self._weights: list[Tensor] = list(learned.values())
        self._means = [parameter.detach().clone() for parameter in self._weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` (from 1)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the network while the block lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def tensors(self) -> dict[str, Tensor]:
        """Return the averages by the names of the parameters."""
        return dict(zip(self._names, self._means, strict=True))

    @torch.no_grad()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Undo ``tensors``; raises ``KeyError`` where one is missing."""
        for name, mean in zip(self._names, self._means, strict=True):
            mean.copy_(saved[name])

    def _swap(self) -> None:
        for index, parameter in enumerate(self._weights):
            parameter.data, self._means[index] = self._means[index], parameter.data
