"""A small network, its data and its training, as the tests of the training loop use them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
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


def drawn_lines(folder: Path) -> list[dict[str, float]]:
    """What TensorBoard shows of a training: the figures of each step, in its order."""
    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    found: dict[int, dict[str, float]] = {}
    for name in board.Tags()["scalars"]:
        for event in board.Scalars(name):
            assert name not in found.setdefault(event.step, {"step": event.step})
            found[event.step][name] = event.value
    return [found[step] for step in sorted(found)]


def check_board(folder: Path) -> None:
    """TensorBoard has the figures of ``metrics.jsonl``, each once; it keeps float32."""
    written = [
        {name: value for name, value in line.items() if isinstance(value, float) or name == "step"}
        for line in lines(folder)
    ]
    shown = drawn_lines(folder)
    assert len(shown) == len(written) > 0
    for one, other in zip(shown, written, strict=True):
        assert {"loss", "learning_rate", "validation_accuracy", "validation_loss"} < other.keys()
        assert one == pytest.approx(other, rel=1e-6)


def vote_of_neighbours(rows: np.ndarray, labels: np.ndarray, neighbours: int) -> float:
    """Share of rows that their nearest others vote for: row by row, in float64, by lists."""
    right = 0
    for index, row in enumerate(rows.astype(np.float64)):
        others = [n for n in range(len(rows)) if n != index]
        others.sort(key=lambda n: float(((rows[n].astype(np.float64) - row) ** 2).sum()))
        votes = [int(labels[n]) for n in others[:neighbours]]
        right += bool(votes) and max(votes, key=votes.count) == labels[index]  # max: the first
    return right / len(rows)


def scripted(values: Sequence[tuple[float, float]]) -> Callable[[nn.Module], Evaluation]:
    left = iter(values)

    def evaluate(module: nn.Module) -> Evaluation:
        accuracy, loss = next(left)
        return Evaluation(accuracy=accuracy, loss=loss)

    return evaluate
