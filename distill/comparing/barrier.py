"""Loss barrier: whether two seeds' students lie in one basin.

Weights are interpolated in a straight line. The barrier is the largest rise of the loss above the
line between the losses at the two ends (Entezari et al., arXiv 2110.06296, equation 1; Frankle
et al., arXiv 1912.05671, take the middle alone). BatchNorm's running statistics belong to no
weights in between, so they are measured again at every point (REPAIR, arXiv 2211.08403).
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

POINTS = 11
Batches = Callable[[], Iterable[Mapping[str, Tensor]]]


def loss_barrier(
    build: Callable[[], nn.Module],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    *,
    batches: Batches,
    evaluate: Callable[[nn.Module], float],
    points: int = POINTS,
) -> float:
    """Largest of L((1-a) first + a second) - ((1-a) L(first) + a L(second)); at least 0.

    ``build`` makes the network that both states fit; ``batches`` begins a reading of prepared
    training batches, always the same; ``evaluate`` gives the loss of a network in eval mode.
    """
    shares = [at / (points - 1) for at in range(points)]
    found = [_loss(build(), first, second, share, batches, evaluate) for share in shares]
    rises = [
        loss - ((1 - share) * found[0] + share * found[-1])
        for share, loss in zip(shares, found, strict=True)
    ]
    return max(0.0, *rises)


def _loss(
    network: nn.Module,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    share: float,
    batches: Batches,
    evaluate: Callable[[nn.Module], float],
) -> float:
    network.load_state_dict(between(first, second, share))
    measure_statistics(network, batches)
    return evaluate(network.eval())


def between(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """``first`` at share 0, ``second`` at 1. Whole numbers (counters) are the first's."""
    return {
        name: torch.lerp(tensor, second[name].to(tensor), share)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Batches) -> None:
    """Set BatchNorm's running statistics to the plain mean over ``batches``; nothing else learns.

    Only BatchNorm is in training mode meanwhile: no dropout.
    """
    norms = [
        part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]
    if not norms:
        return
    momenta = [part.momentum for part in norms]
    network.eval()
    for part in norms:
        part.reset_running_stats()
        part.momentum = None  # the mean of all batches, each alike
        part.train()
    for prepared in batches():
        network(prepared)
    for part, momentum in zip(norms, momenta, strict=True):
        part.momentum = momentum
    network.eval()
