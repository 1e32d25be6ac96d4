"""The paper's CIFAR-10 table: one nested perceptron beside one perceptron for each rank.

``python -m benchmarks.study.nested_cifar``. Frozen MobileNetV2 embeddings, hidden layers of rank
64 at most (arXiv 2509.17874, section 5). Settings are chosen on validation with seed 0, as many
trials for each separate perceptron as for the nested ones; then five fresh seeds are taught and
the test rows read. Whatever ends it, it goes on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from benchmarks.study.common import RUNS, extracted
from benchmarks.study.nested_cifar_page import page
from benchmarks.study.nested_kept import kept
from benchmarks.study.nested_mlp import (
    BETWEEN,
    RANKS,
    Mlp,
    Rows,
    Teaching,
    accuracies,
    accuracy,
    embedded,
    factored,
    logits_of,
    plain,
    renested,
    teach,
    teach_dense,
)
from students.nested import NestedRecipe

CASE = "cifar10-mobilenetv2"
FOLDER = RUNS / "nested-cifar"
SEEDS = (1, 2, 3, 4, 5)
ABLATED = (1, 2, 3)  # seeds of the designs that are ablations
RATES = (1e-3, 3e-3, 1e-2)  # the trials
DECAY = 0.1
EPOCHS = {"separate": 15, "nested": 14}  # 7 x 15 passes over the rows, against 2 x 14 or 3 x 14


@dataclass(frozen=True)
class Design:
    """How one nested network is taught, and from what start."""

    objective: NestedRecipe
    init: str = ""  # "svd" or "whitened" of the dense perceptron; "" begins with random factors
    settings: str = "paper"  # the search that its learning rate comes from


BETTER = "equal, sandwich, dense distils, whitened start"
DESIGNS = {
    "paper": Design(NestedRecipe()),
    BETTER: Design(
        NestedRecipe(weighing="equal", sampling="sandwich", distill="dense"),
        init="whitened",
        settings=BETTER,
    ),
    "paper, whitened start": Design(NestedRecipe(), init="whitened"),
    "equal weights": Design(NestedRecipe(weighing="equal")),
    "clamped weights": Design(NestedRecipe(weighing="clamped")),
    "sum of log CE": Design(NestedRecipe(weighing="log-sum")),
    "sandwich": Design(NestedRecipe(sampling="sandwich")),
    "anchor distils": Design(NestedRecipe(distill="anchor")),
    "dense distils": Design(NestedRecipe(distill="dense")),
    "equal, sandwich": Design(NestedRecipe(weighing="equal", sampling="sandwich")),
}
MAIN = ("paper", BETTER)  # these two are searched, and taught on all seeds


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The rows, and where findings are kept."""

    rows: Mapping[str, Rows]
    folder: Path

    @property
    def dim(self) -> int:
        """Numbers of a row."""
        return self.rows["train"].features.shape[1]

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return int(self.rows["train"].labels.max()) + 1

    def measured(self, network: Mlp, ranks: tuple[int, ...]) -> dict[str, Any]:
        """Accuracy by split and rank; of the test rows only where they were loaded."""
        splits = [name for name in ("validation", "test") if name in self.rows]
        return {name: accuracies(network, self.rows[name], ranks) for name in splits}


def main() -> None:
    """Search on validation, teach fresh seeds, write the page.

    Only the second part loads the test rows, and each network answers them once.
    """
    run = extracted(CASE)
    rows, share = embedded(run, test=False)
    chosen = searched(Bench(rows=rows, folder=FOLDER / "search"))
    final = Bench(rows=embedded(run)[0], folder=FOLDER / "final")
    found: dict[str, Any] = {"chosen": chosen, "separate": [], "dense": [], "variance": share}
    designs: dict[str, list[Any]] = {name: [] for name in DESIGNS}
    for seed in SEEDS:
        found["separate"].append(
            {str(r): separate(final, r, chosen[str(r)], seed=seed) for r in RANKS}
        )
        found["dense"].append(dense(final, chosen, seed)[1])
        for name in MAIN:
            designs[name].append(nested(final, name, chosen, seed=seed))
        print(f"seed {seed}", flush=True)
    for seed, name in product(ABLATED, (name for name in DESIGNS if name not in MAIN)):
        designs[name].append(nested(final, name, chosen, seed=seed))
        print(f"seed {seed}: {name}", flush=True)
    sizes = {name: len(of.labels) for name, of in final.rows.items()}
    page({**found, "designs": designs, "rows": sizes, "epochs": EPOCHS}, better=BETTER)


def searched(bench: Bench) -> dict[str, float]:
    """The best learning rate on validation of each separate rank, and of the main designs."""

    def best(trial: Callable[[float], dict[str, Any]]) -> float:
        return max(RATES, key=lambda rate: mean(trial(rate)["validation"]))

    found: dict[str, float] = {}
    for rank in RANKS:
        found[str(rank)] = best(partial(separate, bench, rank, seed=0))
    for name in MAIN:
        found[name] = best(lambda rate: nested(bench, name, {**found, name: rate}, seed=0))  # noqa: B023
    return found


def mean(accuracies_: Mapping[str, float]) -> float:
    """Over the ranks that are trained."""
    found = [accuracies_[str(rank)] for rank in RANKS if str(rank) in accuracies_]
    return sum(found) / len(found)


def slug(name: str) -> str:
    """A name as a file's."""
    return "-".join(name.replace(",", " ").lower().split())


def separate(bench: Bench, rank: int, rate: float, *, seed: int) -> dict[str, Any]:
    """What a perceptron of one rank gives."""
    path = bench.folder / f"rank-{rank}-{rate:g}-s{seed}.json"
    return kept(path, lambda: _separate(bench, rank, rate, seed))


def _separate(bench: Bench, rank: int, rate: float, seed: int) -> dict[str, Any]:
    network = factored(bench.dim, bench.classes, rank, seed=seed)
    teaching = Teaching(
        learning_rate=rate, weight_decay=DECAY, epochs=EPOCHS["separate"], ranks=(rank,)
    )
    teach(network, teaching, bench.rows, seed=seed, folder=bench.folder / "training")
    if rank < RANKS[0]:
        return bench.measured(network, (rank,))
    # the largest is truncated too: as it stands, and by its products' singular vectors
    ranks = tuple(sorted(RANKS + BETWEEN, reverse=True))
    cut = {
        init: bench.measured(renested(network, init, bench.rows["train"]), ranks)
        for init in ("svd", "whitened")
    }
    return {**bench.measured(network, ranks), "cut": cut}


def nested(bench: Bench, name: str, chosen: Mapping[str, float], *, seed: int) -> dict[str, Any]:
    """What one nested network of a design gives at all ranks, trained and in between."""
    design = DESIGNS[name]
    rate = chosen[design.settings]
    path = bench.folder / f"{slug(name)}-{rate:g}-s{seed}.json"
    needs = design.init or design.objective.distill == "dense"
    return kept(
        path,
        lambda: _nested(
            bench, design, rate, seed, dense=dense(bench, chosen, seed)[0] if needs else None
        ),
    )


def _nested(
    bench: Bench, design: Design, rate: float, seed: int, *, dense: Mlp | None = None
) -> dict[str, Any]:
    train, aims = bench.rows["train"], None
    network = factored(bench.dim, bench.classes, RANKS[0], seed=seed)
    if dense is not None and design.init:
        network = renested(dense, design.init, train)
    if dense is not None and design.objective.distill == "dense":
        aims = logits_of(dense, train)
    teaching = Teaching(
        learning_rate=rate,
        weight_decay=DECAY,
        epochs=EPOCHS["nested"],
        ranks=RANKS,
        objective=design.objective,
    )
    found = teach(
        network, teaching, bench.rows, seed=seed, folder=bench.folder / "training", aims=aims
    )
    told = bench.measured(network, tuple(sorted(RANKS + BETWEEN, reverse=True)))
    weights = {str(rank): course for rank, course in found.weights.items()}
    return {**told, "best_epoch": found.best_epoch, "weights": weights}


@cache
def _dense_of(path: Path, dim: int, classes: int) -> Mlp:
    network = plain(dim, classes, seed=0)
    network.load_state_dict(load_file(path))
    return network


def dense(bench: Bench, chosen: Mapping[str, float], seed: int) -> tuple[Mlp, dict[str, Any]]:
    """The dense perceptron of a seed and its accuracies; by the learning rate of rank 64."""
    path = bench.folder / f"dense-s{seed}.safetensors"

    def make() -> dict[str, Any]:
        network = plain(bench.dim, bench.classes, seed=seed)
        teaching = Teaching(
            learning_rate=chosen[str(RANKS[0])],
            weight_decay=DECAY,
            epochs=EPOCHS["separate"],
            ranks=(),
        )
        teach_dense(network, teaching, bench.rows, seed=seed, folder=bench.folder / "training")
        save_file(network.state_dict(), path)
        splits = [name for name in ("validation", "test") if name in bench.rows]
        return {name: accuracy(network, bench.rows[name]) for name in splits}

    told = kept(path.with_suffix(".json"), make)
    return _dense_of(path, bench.dim, bench.classes), told


if __name__ == "__main__":
    main()
