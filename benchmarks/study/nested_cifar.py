"""The paper's CIFAR-10 table: one nested perceptron beside one perceptron for each rank.

``python -m benchmarks.study.nested_cifar``. Frozen MobileNetV2 embeddings, hidden layers of rank
64 at most (arXiv 2509.17874, section 5). Settings are chosen on validation with seed 0, as many
trials for each separate perceptron as for the nested ones; then five fresh seeds are taught and
the test rows read. Whatever ends it, it goes on.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
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
    Teaching,
    accuracies,
    accuracy,
    at_rank,
    factored,
    logits_of,
    over,
    plain,
    renested,
    teach,
    teach_dense,
    with_own,
)
from benchmarks.study.nested_rows import Rows, embedded
from students.nested import NestedRecipe, give_biases

CASE = "cifar10-mobilenetv2"
FOLDER = RUNS / "nested-cifar"
SEEDS, ABLATED, LENGTHENED = 5, 3, 3  # seeds, those of ablations, and of long trainings
RATES = (1e-3, 3e-3, 1e-2)  # the trials
DECAY = 0.1
EPOCHS = 15  # of each separate perceptron
SHORT = 14  # of a nested one, of two passes over the rows or as many as PASSES says
LONG = 7 * EPOCHS  # passes of a long training: as many as all separate ones take together


@dataclass(frozen=True)
class Design:
    """How one nested network is taught, and from what start."""

    objective: NestedRecipe
    init: str = ""  # "svd" or "whitened" of the dense perceptron; "" begins with random factors
    settings: str = "paper"  # the search that its learning rate comes from
    own: bool = False  # gains and biases of each rank's own
    biased: bool = False  # biases alone, of the nested layers


BETTER = "equal, sandwich, dense distils, whitened start"
OWN = f"{BETTER}, gains and biases of each rank"
BIASED = "equal, every rank each step, biases of each rank"
EVERY = "equal, every rank each step, gains and biases of each rank"
DESIGNS = {
    "paper": Design(NestedRecipe()),
    BETTER: Design(
        NestedRecipe(weighing="equal", sampling="sandwich", distill="dense"),
        init="whitened",
        settings=BETTER,
    ),
    OWN: Design(
        NestedRecipe(weighing="equal", sampling="sandwich", distill="dense"),
        init="whitened",
        settings=OWN,
        own=True,
    ),
    BIASED: Design(NestedRecipe(weighing="equal", sampling="every"), settings=BIASED, biased=True),
    EVERY: Design(NestedRecipe(weighing="equal", sampling="every"), settings=EVERY, own=True),
    "equal, every rank each step": Design(NestedRecipe(weighing="equal", sampling="every")),
    "paper, gains and biases of each rank": Design(NestedRecipe(), own=True),
    "paper, whitened start": Design(NestedRecipe(), init="whitened"),
    "equal weights": Design(NestedRecipe(weighing="equal")),
    "clamped weights": Design(NestedRecipe(weighing="clamped")),
    "sum of log CE": Design(NestedRecipe(weighing="log-sum")),
    "sandwich": Design(NestedRecipe(sampling="sandwich")),
    "anchor distils": Design(NestedRecipe(distill="anchor")),
    "dense distils": Design(NestedRecipe(distill="dense")),
    "ranks drawn uniformly": Design(NestedRecipe(sampling="uniform")),
    "equal, uniformly, dense distils": Design(
        NestedRecipe(weighing="equal", sampling="uniform", distill="dense")
    ),
    "equal, sandwich": Design(NestedRecipe(weighing="equal", sampling="sandwich")),
}
MAIN = ("paper", BETTER, OWN, BIASED, EVERY)  # these are searched, and taught for long
PASSES = {"sandwich": 3, "every": len(RANKS)}  # of a step; of the others two


def long_epochs(design: Design) -> int:
    """Epochs that make ``LONG`` passes; twice as many where that is no longer than others learn."""
    epochs = LONG // PASSES.get(design.objective.sampling, 2)
    return epochs if epochs > EPOCHS else 2 * epochs


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the main designs")
    parser.add_argument("--ablated", type=int, default=ABLATED, help="seeds of the ablations")
    parser.add_argument("--long", type=int, default=LENGTHENED, help="seeds of long trainings")
    asked = parser.parse_args()
    run = extracted(CASE)
    rows, share = embedded(run, test=False)
    chosen = searched(Bench(rows=rows, folder=FOLDER / "search"))
    final = Bench(rows=embedded(run)[0], folder=FOLDER / "final")
    found: dict[str, Any] = {"chosen": chosen, "separate": [], "dense": [], "variance": share}
    for seed in range(1, asked.seeds + 1):
        found["separate"].append(
            {str(r): separate(final, r, chosen[str(r)], seed=seed) for r in RANKS}
        )
        found["dense"].append(dense(final, chosen, seed)[1])
        print(f"seed {seed}", flush=True)

    def taught(name: str, seeds: int, epochs: int) -> list[dict[str, Any]]:
        return [nested(final, name, chosen, seed, epochs) for seed in range(1, seeds + 1)]

    designs = {}
    for name in DESIGNS:
        seeds = asked.seeds if name in MAIN else asked.ablated
        designs[name] = taught(name, seeds, SHORT)
        print(name, flush=True)
    lengths = {name: long_epochs(DESIGNS[name]) for name in MAIN}
    long = {name: taught(name, asked.long, epochs) for name, epochs in lengths.items()}
    sizes = {name: len(of.labels) for name, of in final.rows.items()}
    told = {"separate": EPOCHS, "nested": SHORT, **lengths}
    command = f"nested_cifar --seeds {asked.seeds} --ablated {asked.ablated} --long {asked.long}"
    page(
        {
            **found,
            "command": command,
            "designs": designs,
            "long": long,
            "rows": sizes,
            "epochs": told,
        }
    )


def searched(bench: Bench) -> dict[str, float]:
    """The best learning rate on validation of each separate rank, and of the main designs."""

    def best(trial: Callable[[float], dict[str, Any]], ranks: Sequence[int]) -> float:
        return max(RATES, key=lambda rate: over(trial(rate)["validation"], ranks))

    found: dict[str, float] = {}
    for rank in RANKS:
        found[str(rank)] = best(partial(separate, bench, rank, seed=0), [rank])
    for name in MAIN:
        found[name] = best(lambda rate: nested(bench, name, {**found, name: rate}, 0, SHORT), RANKS)  # noqa: B023
    return found


def slug(name: str) -> str:
    """A name as a file's."""
    return "-".join(name.replace(",", " ").lower().split())


def separate(bench: Bench, rank: int, rate: float, *, seed: int) -> dict[str, Any]:
    """What a perceptron of one rank gives."""
    path = bench.folder / f"rank-{rank}-{rate:g}-s{seed}.json"
    return kept(path, lambda: _separate(bench, rank, rate, seed))


def _separate(bench: Bench, rank: int, rate: float, seed: int) -> dict[str, Any]:
    network = factored(bench.dim, bench.classes, rank, seed=seed)
    teaching = Teaching(learning_rate=rate, weight_decay=DECAY, epochs=EPOCHS, ranks=(rank,))
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


def nested(
    bench: Bench, name: str, chosen: Mapping[str, float], seed: int, epochs: int
) -> dict[str, Any]:
    """What one nested network of a design gives at all ranks, trained and in between."""
    design = DESIGNS[name]
    rate = chosen[design.settings]
    path = bench.folder / f"{slug(name)}-{rate:g}-e{epochs}-s{seed}.json"
    needs = design.init or design.objective.distill == "dense"
    return kept(
        path,
        lambda: _nested(
            bench, design, rate, seed, epochs, dense(bench, chosen, seed)[0] if needs else None
        ),
    )


def _nested(
    bench: Bench, design: Design, rate: float, seed: int, epochs: int, dense: Mlp | None
) -> dict[str, Any]:
    train, aims = bench.rows["train"], None
    network = factored(bench.dim, bench.classes, RANKS[0], seed=seed)
    if dense is not None and design.init:
        network = renested(dense, design.init, train)
    if design.own:
        network = with_own(network)
    if design.biased:
        give_biases(network, [at_rank(network, rank) for rank in RANKS])
    if dense is not None and design.objective.distill == "dense":
        aims = logits_of(dense, train)
    teaching = Teaching(
        learning_rate=rate,
        weight_decay=DECAY,
        epochs=epochs,
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
            epochs=EPOCHS,
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
