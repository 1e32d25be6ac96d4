"""Small perceptrons of any rank: how one is made, taught and measured."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from benchmarks.study.nested_rows import Rows
from students import (
    Evaluation,
    LabelLoss,
    MemoryFeed,
    Recipe,
    evaluate_logits,
    fit,
    in_memory,
)
from students.nested import (
    Learning,
    NestedLinear,
    NestedObjective,
    NestedRecipe,
    RankPasses,
    evaluate_ranks,
    nest,
    nested_layers,
    set_rank,
)
from students.stepping import Passes

RANKS = (64, 32, 16, 8, 4, 2, 1)  # that are trained, the anchor's first
BETWEEN = (50, 30, 10, 5, 3)  # that are not
HIDDEN = 256
JUDGED = 2000  # validation rows by which an epoch is chosen
BATCH = 512
CALIBRATION = 2048  # rows that a whitened start reads
DROPPED = 0.3  # of the features and of both hidden layers


class Dropout(nn.Module):
    """``nn.Dropout`` to the nearest 1/256: a byte of chance for each number, a fifth of its time.

    Drawing a number of 64 bits for each took 40 % of a step.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.below = round(256 * share)

    def forward(self, rows: Tensor) -> Tensor:
        """The rows where they are kept, over the share that is; in evaluation, as they are."""
        if not self.training:
            return rows
        words = torch.empty(-(-rows.numel() // 4), dtype=torch.int32).random_(-(2**31), 2**31)
        chances = words.view(torch.uint8)[: rows.numel()].view(rows.shape)
        return rows * (chances >= self.below).to(rows.dtype).mul_(256 / (256 - self.below))


class Mlp(nn.Module):
    """Two hidden layers with ReLU, and a head; the three are handed in."""

    def __init__(self, first: nn.Module, second: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.head = first, second, head
        self.drop = Dropout(DROPPED)

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        """Logits (rows, classes) of ``rows`` (rows, dim)."""
        found = self.drop(torch.relu(self.first(self.drop(prepared["rows"]))))
        logits: Tensor = self.head(self.drop(torch.relu(self.second(found))))
        return logits


class Own(nn.Module):
    """A layer whose outputs have a gain and a bias of each trained rank's own.

    As slimmable networks have norms of each width's own (arXiv 1812.08928): the subspaces stay
    nested, and what a rank adds is 2 numbers an output. A rank in between takes those of the next
    trained one above. ``nested`` says which rank it is here and now.
    """

    def __init__(self, layer: nn.Module, nested: NestedLinear, *, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.nested = (nested,)  # not registered again: that of the head is another layer
        self.gain = nn.Parameter(torch.zeros(len(RANKS), width))  # beside 1, to which it decays
        self.bias = nn.Parameter(torch.zeros(len(RANKS), width))

    def forward(self, rows: Tensor) -> Tensor:
        """The layer's outputs (rows, width), scaled and shifted."""
        rank = self.nested[0].rank_now
        place = max(place for place, trained in enumerate(RANKS) if trained >= rank)
        found: Tensor = self.layer(rows) * (1 + self.gain[place]) + self.bias[place]
        return found


def with_own(network: Mlp) -> Mlp:
    """The network of nested hidden layers, with gains and biases of each rank's own."""
    first, second, head = network.first, network.second, network.head
    if not isinstance(first, NestedLinear) or not isinstance(second, NestedLinear):
        raise TypeError("its hidden layers are to be nested")
    if not isinstance(head, nn.Linear):
        raise TypeError("its head is to be linear")
    return Mlp(
        Own(first, first, width=HIDDEN),
        Own(second, second, width=HIDDEN),
        Own(head, second, width=head.out_features),
    )


def plain(dim: int, classes: int, *, seed: int) -> Mlp:
    """Three dense layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Mlp(nn.Linear(dim, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, classes))


def factored(dim: int, classes: int, rank: int, *, seed: int) -> Mlp:
    """Three layers of this rank, the head's no more than it has classes; random factors."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Mlp(
            NestedLinear(dim, HIDDEN, rank),
            NestedLinear(HIDDEN, HIDDEN, rank),
            nn.Linear(HIDDEN, classes),
        )


def renested(network: Mlp, init: str, rows: Rows) -> Mlp:
    """The network at its full ranks, its hidden layers nested anew, by "svd" or "whitened"."""
    made = dense_of(network)
    calibration = [({"rows": rows.features[:CALIBRATION]},)] if init == "whitened" else []
    nest(made, ["first", "second"], rank=RANKS[0], init=init, calibration=calibration)
    return made


@torch.no_grad()
def dense_of(network: Mlp) -> Mlp:
    """A copy with the products of its factors as plain layers."""
    layers = [_plain_copy(layer) for layer in (network.first, network.second, network.head)]
    return Mlp(*layers)


def _plain_copy(layer: nn.Module) -> nn.Linear:
    if not isinstance(layer, NestedLinear | nn.Linear):
        raise TypeError(f"a perceptron has linear layers, got a {type(layer).__name__}")
    made = nn.Linear(layer.in_features, layer.out_features)
    made.weight.copy_(layer.weight)
    if layer.bias is not None:
        made.bias.copy_(layer.bias)
    return made


def at_rank(network: nn.Module, rank: int) -> dict[str, int]:
    """One rank for each layer, or as much as it has."""
    return {name: min(rank, of.full_rank) for name, of in nested_layers(network).items()}


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """How a network is taught: what a search chooses, and what a design is."""

    learning_rate: float
    weight_decay: float
    epochs: int
    ranks: tuple[int, ...]  # the anchor's first
    objective: NestedRecipe = field(default_factory=lambda: NestedRecipe(weighing="equal"))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Taught:
    """The best epoch by the mean of the ranks on validation, and each rank's weight by epoch."""

    best_epoch: int
    weights: dict[int, list[tuple[int, float]]]  # by rank: (epoch, mean weight of its steps)


def teach(
    network: Mlp,
    teaching: Teaching,
    rows: Mapping[str, Rows],
    *,
    seed: int,
    folder: Path,
    aims: Float32[Tensor, "rows classes"] | None = None,
    passes: Callable[..., Passes] = RankPasses,
) -> Taught:
    """Teach it in place; ``aims`` are the dense network's logits of the training rows.

    ``passes`` makes the loss, as ``RankPasses`` is made.
    """
    shutil.rmtree(folder, ignore_errors=True)  # weights' courses are not in its checkpoints
    train, settings = rows["train"], [at_rank(network, rank) for rank in teaching.ranks]
    steps = -(-len(train.labels) // BATCH)
    objective = NestedObjective(
        teaching.objective, count=len(settings), steps=steps * teaching.epochs, seed=seed
    )
    one = Learning(network, objective)
    seen: dict[tuple[int, int], list[float]] = defaultdict(list)

    def note(at: int, place: int, figures: Mapping[str, float]) -> None:
        seen[teaching.ranks[place], at // steps + 1].append(figures["weight"])

    targets = {"labels": in_memory(train.labels)}
    if aims is not None:
        targets["logits"] = in_memory(aims)
    named = {str(rank): each for rank, each in zip(teaching.ranks, settings, strict=True)}
    result = fit(
        one,
        feed=MemoryFeed({"rows": train.features}, targets),
        loss=passes(one, settings, on_figures=note),
        evaluate=lambda _: evaluate_ranks(network, named, _judge(_first(rows["validation"]))),
        recipe=_recipe(teaching, seed),
        folder=folder,
    )
    shutil.rmtree(folder, ignore_errors=True)
    weights: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for (rank, epoch), found in sorted(seen.items()):
        weights[rank].append((epoch, float(np.mean(found))))
    return Taught(best_epoch=result.best_epoch, weights=dict(weights))


def teach_dense(
    network: Mlp, teaching: Teaching, rows: Mapping[str, Rows], *, seed: int, folder: Path
) -> None:
    """Teach plain layers the labels in place, and keep the best epoch on validation."""
    shutil.rmtree(folder, ignore_errors=True)
    train, judge = rows["train"], _judge(_first(rows["validation"]))
    fit(
        network,
        feed=MemoryFeed({"rows": train.features}, {"labels": in_memory(train.labels)}),
        loss=LabelLoss(),
        evaluate=judge,
        recipe=_recipe(teaching, seed),
        folder=folder,
    )
    shutil.rmtree(folder, ignore_errors=True)


def _recipe(teaching: Teaching, seed: int) -> Recipe:
    return Recipe(
        epochs=teaching.epochs,
        batch_size=BATCH,
        learning_rate=teaching.learning_rate,
        weight_decay=teaching.weight_decay,
        warmup=0.05,
        seed=seed,
    )


def _first(rows: Rows) -> Rows:
    return Rows(features=rows.features[:JUDGED], labels=rows.labels[:JUDGED])


def _judge(rows: Rows) -> Callable[[nn.Module], Evaluation]:
    return lambda network: evaluate_logits(_logits(network, rows), _labels(rows))


def over(found: Mapping[str, float], ranks: Sequence[int]) -> float:
    """The mean of accuracies by rank over these ranks."""
    return sum(found[str(rank)] for rank in ranks) / len(ranks)


def accuracy(network: nn.Module, rows: Rows) -> float:
    """Share of right answers as the network stands."""
    return float((_logits(network, rows).argmax(axis=1) == _labels(rows)).mean())


def accuracies(network: nn.Module, rows: Rows, ranks: Sequence[int]) -> dict[str, float]:
    """Share of right answers at each rank, by the rank as text."""
    found = {}
    for rank in ranks:
        set_rank(network, at_rank(network, rank))
        found[str(rank)] = accuracy(network, rows)
    return found


@torch.no_grad()
def logits_of(network: nn.Module, rows: Rows) -> Float32[Tensor, "rows classes"]:
    """Of all rows, in evaluation."""
    network.eval()
    parts = [network({"rows": part}) for part in torch.split(rows.features, 2048)]
    return torch.cat(parts)


def _logits(network: nn.Module, rows: Rows) -> Float32[np.ndarray, "rows classes"]:
    found: np.ndarray = logits_of(network, rows).numpy()
    return found


def _labels(rows: Rows) -> Int64[np.ndarray, " rows"]:
    found: np.ndarray = rows.labels.numpy()
    return found
