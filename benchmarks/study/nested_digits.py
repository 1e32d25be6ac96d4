"""Objectives of a nested network, side by side on handwritten digits: a first trial, small data.

``python -m benchmarks.study.nested_digits``. An MLP of two hidden layers, nested to rank 64 from
random weights, learns ranks 64 to 1 by each objective with equally many steps. Digits are too easy
to settle anything; where objectives differ by tens of points here, that is worth a larger trial.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.study.common import mean_and_half, points, table, write
from students.nested import NestedObjective, NestedRecipe, RankPasses, nest, set_rank
from students.nested.training import Learning

RANKS = (64, 32, 16, 8, 4, 2, 1)
TEACHES = 1000  # rows; the others are tested on
SEEDS, EPOCHS, BATCH, RATE = (0, 1, 2), 40, 64, 2e-3
RECIPES = {
    "the paper's": NestedRecipe(),
    "uncertainty, uniform": NestedRecipe(sampling="uniform"),
    "uncertainty, sandwich": NestedRecipe(sampling="sandwich"),
    "clamped, sandwich": NestedRecipe(weighing="clamped", sampling="sandwich"),
    "log-sum, sandwich": NestedRecipe(weighing="log-sum", sampling="sandwich"),
    "equal, widening": NestedRecipe(weighing="equal"),
    "equal, sandwich": NestedRecipe(weighing="equal", sampling="sandwich"),
    "equal, sandwich, anchor's logits": NestedRecipe(
        weighing="equal", sampling="sandwich", distill="anchor"
    ),
}


class Mlp(nn.Module):
    """64 pixels, two hidden layers of 128, ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 128), nn.Linear(128, 128)
        self.last = nn.Linear(128, 10)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits of the digits."""
        hidden = self.second(self.first(inputs["x"]).relu()).relu()
        logits: Tensor = self.last(hidden)
        return logits


def main() -> None:
    """Train by every objective with every seed, and write the page."""
    digits = load_digits()
    pixels = torch.from_numpy(digits.data.astype(np.float32) / 16)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    rows = []
    for name, recipe in RECIPES.items():
        runs = [taught(recipe, pixels, labels, seed) for seed in SEEDS]
        found = np.array([accuracies for accuracies, _ in runs])
        cells = [points(*mean_and_half(list(column))) for column in found.T]
        rows.append([name, *cells, f"{max(weight for _, weight in runs):.1f}"])
        print(name, *cells, flush=True)
    told = (
        f"Test accuracy in percent, {len(SEEDS)} seeds with 95 % intervals; {TEACHES} training and "
        f"{len(labels) - TEACHES} test rows, {EPOCHS} epochs, random weights. The last column is "
        "the largest weight that the anchor's loss ever had in the gradient.\n"
    )
    header = ["objective", *(f"rank {rank}" for rank in RANKS), "anchor's weight"]
    write("nested_digits", "Objectives of a nested MLP on digits", told, table(header, rows))


def taught(
    recipe: NestedRecipe, pixels: Tensor, labels: Tensor, seed: int
) -> tuple[list[float], float]:
    """Test accuracy at each rank, and the anchor's largest weight."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, test = order[:TEACHES], order[TEACHES:]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Mlp()
    nest(network, ["first", "second"], rank=RANKS[0])
    steps = EPOCHS * -(-TEACHES // BATCH)
    objective = NestedObjective(recipe, count=len(RANKS), steps=steps, seed=seed)
    weights: list[float] = [0.0]

    def heard(at: int, place: int, figures: Mapping[str, float]) -> None:
        del at
        weights.append(figures["weight"] if place == 0 else 0.0)

    learning = Learning(network, objective)
    passes = RankPasses(learning, RANKS, on_figures=heard)
    groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
    if objective.log_variances is not None:
        groups.append({"params": [objective.log_variances], "weight_decay": 0.0, "lr": 1e-2})
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.01)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        if step % (steps // EPOCHS) == 0:
            shuffled = train[torch.from_numpy(rng.permutation(TEACHES))]
        batch = shuffled[(step % (steps // EPOCHS)) * BATCH :][:BATCH]
        optimizer.zero_grad()
        passes.gradient(
            learning, {"x": pixels[batch]}, {"labels": labels[batch]}, at=step, backward=_backward
        )
        optimizer.step()
    found = []
    with torch.inference_mode():
        for rank in RANKS:
            set_rank(network, rank)
            right = network({"x": pixels[test]}).argmax(dim=1) == labels[test]
            found.append(float(right.float().mean()))
    return found, max(weights)


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
