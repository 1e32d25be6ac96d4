"""A small network, its data and its training, as the tests of the training loop use them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from students import (
    Evaluation,
    FitResult,
    LabelLoss,
    MemoryFeed,
    Recipe,
    evaluate_logits,
    fit,
    forward_rows,
    in_memory,
)
from students.checkpoint import read_tensors

ROWS, CLASSES, BATCH = 61, 3, 8  # the last batch is a short one of five rows


class Net(nn.Module):
    """Everything that carries state or draws: convolution, BatchNorm, dropout, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3)
        )
        self.last = nn.Linear(4 * 9, CLASSES)

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        rows: Tensor = self.last(self.layers(prepared["pixel_values"]))
        return rows


def data() -> tuple[MemoryFeed, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, ROWS)
    pixels = rng.standard_normal((ROWS, 3, 5, 5)) + labels[:, None, None, None]
    inputs = {"pixel_values": torch.from_numpy(pixels.astype(np.float32))}
    return MemoryFeed(inputs, {"labels": in_memory(labels)}), labels


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def recipe(**changes: Any) -> Recipe:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": BATCH, "learning_rate": 0.01}
    return Recipe(**(settings | {"weight_decay": 0.1, "warmup": 0.1} | changes))


def train(folder: Path, net: nn.Module | None = None, **changes: Any) -> FitResult:
    feed, labels = data()

    def evaluate(module: nn.Module) -> Evaluation:
        at = str(changes.get("device", "cpu"))
        return evaluate_logits(forward_rows(module, feed, device=at), labels)

    settings: dict[str, Any] = {
        "feed": feed,
        "loss": LabelLoss(),
        "evaluate": evaluate,
        "recipe": recipe(),
        "folder": folder,
    }
    return fit(network() if net is None else net, **(settings | changes))


def weights(folder: Path) -> dict[str, Tensor]:
    return read_tensors(folder / "checkpoints" / "best.safetensors")[0]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def scripted(values: Sequence[tuple[float, float]]) -> Callable[[nn.Module], Evaluation]:
    left = iter(values)

    def evaluate(module: nn.Module) -> Evaluation:
        accuracy, loss = next(left)
        return Evaluation(accuracy=accuracy, loss=loss)

    return evaluate
