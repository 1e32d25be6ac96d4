"""What one step of training is made of: the optimiser, its state, devices, seeds, watch for NaN."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from students.recipe import Recipe


class Watch:
    """Losses and norms still on the device: looking at each would stop a GPU at every step."""

    def __init__(self, *, every: int) -> None:
        self._every = every
        self._held: list[tuple[Tensor, Tensor, int]] = []

    def add(self, loss: Tensor, norm: Tensor, size: int) -> None:
        """Keep what one step gave, unread."""
        self._held.append((loss, norm, size))

    @property
    def full(self) -> bool:
        """Whether it is time to look."""
        return len(self._held) >= self._every

    def values(self) -> list[tuple[int, tuple[float, float, int]]]:
        """Read (steps since then, (loss, norm, rows)), oldest first, and forget them."""
        held, self._held = self._held, []
        last = len(held) - 1
        return [
            (last - index, (float(loss), float(norm), size))
            for index, (loss, norm, size) in enumerate(held)
        ]


def place(network: nn.Module, device: str) -> nn.Module:
    """On the device; convolutions channels-last, which is faster on CPU and GPU alike."""
    network.to(torch.device(device))
    if any(parameter.ndim == 4 for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)
    return network


def to_device(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Tensors of a batch on the device, images channels-last."""
    return {
        name: tensor.to(device, memory_format=torch.channels_last)
        if tensor.ndim == 4
        else tensor.to(device)
        for name, tensor in tensors.items()
    }


def make_optimizer(
    network: nn.Module, recipe: Recipe, device: torch.device
) -> torch.optim.Optimizer:
    """The recipe's; it decays matrices and kernels, not what has one axis, as biases and norms.

    Parameters that carry a ``pace`` learn so many times as fast as the others, and never decay.
    """
    every = [p for p in network.parameters() if p.requires_grad]
    paced = [p for p in every if hasattr(p, "pace")]
    learned = [p for p in every if not hasattr(p, "pace")]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        *({"params": [p], "weight_decay": 0.0, "pace": float(p.pace)} for p in paced),
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9)
    fused = device.type in {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by the number of the parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{index}.{key}": value
        for index, parameter in enumerate(parameters)
        for key, value in optimizer.state[parameter].items()
    }


def restore_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Undo ``moments_of``."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, saved in moments.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        # the moments lie in memory as the parameter does, as the optimiser itself makes them
        home = torch.empty_like(parameter).copy_(saved) if saved.ndim else saved
        optimizer.state[parameter][key] = home.to(parameter.device)


def forget_gradients(optimizer: torch.optim.Optimizer) -> None:
    """``zero_grad(set_to_none=True)`` without its hooks, which take 1 % of a small step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def clip_gradient(optimizer: torch.optim.Optimizer, most: float) -> Tensor:
    """Shorten the whole gradient to length ``most`` (0: leave it); returns the length it had.

    On a CPU, where looking costs nothing, a short gradient is not touched at all: in a small
    network the multiplication alone is some hundredth of the step.
    """
    gradients = [
        p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    # one call for all: a call a parameter takes 2 % of a small network's step
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if most and (norm.device.type != "cpu" or float(norm) > most):
        factor = (most / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
    return norm


def set_seed(seed: int, device: torch.device) -> None:
    """Seed the generators this device draws from; ``torch.manual_seed`` seeds all, slowly."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def step_seeds(seed: int, epoch: int, steps: int) -> list[int]:
    """One seed for each step of an epoch, unrelated to that of any other."""
    drawn = np.random.SeedSequence((seed, epoch)).generate_state(steps, np.uint64)
    return [int(number) >> 1 for number in drawn]  # torch takes 63 bits
