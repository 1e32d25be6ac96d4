"""A tiny dense network that was taught, a nested one made of it, and a class to measure them in."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.classroom import Classroom
from distill.contestants import Ground
from distill.progress import SILENT
from students import MemoryFeed, Recipe
from students.nested import (
    NestedRecipe,
    dense_costs,
    nest,
    nested_layers,
    nested_path,
)

WIDTH, HIDDEN, CLASSES, BLOCKS = 12, 24, 4, 2
LESSONS = (12, 6, 2)  # ranks


class Mlp(nn.Module):
    """Named as timm's."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)


class Block(nn.Module):
    """A residual MLP block."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Mlp()

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = rows + self.mlp.fc2(torch.relu(self.mlp.fc1(rows)))
        return found


class Tiny(nn.Module):
    """Two blocks and a head; it takes a prepared batch, as the networks of a run do."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = self.head(self.blocks(prepared["rows"]))
        return found


@cache
def rows() -> dict[str, tuple[Tensor, np.ndarray]]:
    """Rows about four centres, in three splits."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(CLASSES, WIDTH, generator=generator)
    found = {}
    for split, count in (("train", 203), ("validation", 90), ("test", 101)):
        labels = torch.randint(CLASSES, (count,), generator=generator)
        noise = torch.randn(count, WIDTH, generator=generator)
        found[split] = (centres[labels] + noise, labels.numpy())
    return found


@cache
def _taught() -> Tiny:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Tiny()
        learn(network)
    return network


def learn(network: nn.Module, *, steps: int = 60) -> None:
    inputs, labels = rows()["train"]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network({"rows": inputs}), torch.from_numpy(labels))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval()


def dense() -> nn.Module:
    return copy.deepcopy(_taught())


def room(**changes: Any) -> Classroom:
    made: dict[str, Any] = {
        "feeds": {name: MemoryFeed({"rows": x}, {}) for name, (x, _) in rows().items()},
        "labels": {name: labels for name, (_, labels) in rows().items()},
        "dense": dense(),
        "recipe": Recipe(epochs=2, batch_size=32, learning_rate=0.01),
        "objective": NestedRecipe(weighing="equal", sampling="sandwich", distill="anchor"),
        "calibration": [({"rows": rows()["train"][0]},)],
        "made_by": {"example": 1},
        "device": "cpu",
        "progress": SILENT,
    }
    return Classroom(**(made | changes))


def ground(**changes: Any) -> Ground:

    def start() -> nn.Module:
        network = dense()
        nest(network, "mlp", init="svd")
        return network

    example = ({"rows": rows()["train"][0][:1]},)
    network = start()
    costs, layers = dense_costs(network, example), nested_layers(network)
    settings = [dict.fromkeys(layers, rank) for rank in range(12, 0, -1)]
    path = nested_path(settings, share=costs.share, measured_at="12 numbers")
    made: dict[str, Any] = {
        "dense": dense(),
        "include": ("mlp",),
        "calibration": [({"rows": rows()["train"][0]},)],
        "example": example,
        "path": path,
        "lessons": tuple(dict.fromkeys(layers, rank) for rank in LESSONS),
        "gauges": True,
        "own_biases": False,
        "start": start,
        "taught": start,
        "updates": 14,
        "points": 6,
        "budgets": (0.5,),
    }
    return Ground(**(made | changes))
