"""The paper's ablation of objectives on CIFAR-10, row by row, and logit match read several ways.

``python -m benchmarks.study.nested_objectives``, after ``nested_cifar``, whose learning rates it
takes and whose page it writes anew. Weights are 0.1, as the paper's are not known, and 1, which
distillation has elsewhere. Logit match of other weights, and in place of a variant's labels, was
added once seed 0 had shown on validation where trained ranks fall as in the paper; all rows that
were taught with other seeds are shown.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.study.common import RESULTS, extracted
from benchmarks.study.nested_cifar import (
    CASE,
    DECAY,
    DESIGNS,
    EPOCHS,
    FOLDER,
    MAIN,
    SHORT,
    Bench,
    slug,
)
from benchmarks.study.nested_cifar_page import NAME, PAPER, page
from benchmarks.study.nested_kept import kept
from benchmarks.study.nested_mlp import BETWEEN, RANKS, Mlp, Teaching, factored, logits_of, teach
from benchmarks.study.nested_objectives_page import (
    ALONE,
    DISTILLED,
    FILE,
    ONE_DRAW,
    ORTHOGONAL,
    ORTHONORMAL,
    TWO,
    named,
)
from benchmarks.study.nested_rows import embedded
from benchmarks.study.nested_terms import (
    Extra,
    ExtraPasses,
    Term,
    hidden_match,
    logit_divergence,
    logit_error,
    orthogonality,
    residual_orthogonality,
)
from students.nested import NestedRecipe, RankPasses, set_rank

SEEDS = 5
EQUAL = NestedRecipe(weighing="equal")  # of one cross-entropy there is nothing to weigh


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one network is taught: of the full rank alone, or of the paper's two ranks a step."""

    alone: bool = False
    objective: NestedRecipe = field(default_factory=NestedRecipe)
    extra: Extra | None = None  # None: as the product teaches


def _matched(
    what: str, term: Term, weight: float, *, moves: bool, told: bool = True
) -> tuple[str, Row]:
    row = Row(
        objective=NestedRecipe() if told else EQUAL,
        extra=Extra(terms={term: weight}, anchor_moves=moves, told=told),
    )
    return named(what, weight, moves=moves, told=told), row


ROWS = {
    ALONE: Row(alone=True, objective=EQUAL, extra=Extra()),
    ORTHOGONAL: Row(alone=True, objective=EQUAL, extra=Extra(terms={orthogonality: 0.1})),
    ORTHONORMAL: Row(alone=True, objective=EQUAL, extra=Extra(orthonormal=True)),
    TWO: Row(),
    DISTILLED: Row(objective=NestedRecipe(distill="anchor")),
    ONE_DRAW: Row(extra=Extra()),
    **dict(
        _matched(what, term, weight, moves=moves)
        for what, term, weights in (
            ("residual orthogonality", residual_orthogonality, (0.1, 1.0)),
            ("hidden match", hidden_match, (0.1, 1.0)),
            ("KL of logits", logit_divergence, (1.0, 10.0)),
            ("squared error of logits", logit_error, (0.1, 0.3, 1.0, 10.0)),
        )
        for weight in weights
        for moves in (False, True)
    ),
    **dict(
        _matched(what, term, weight, moves=moves, told=False)
        for what, term, weights in (
            ("KL of logits", logit_divergence, (0.1,)),
            ("squared error of logits", logit_error, (0.01, 0.1)),
        )
        for weight in weights
        for moves in (False, True)
    ),
}


def main() -> None:
    """Teach every row with each seed, keep what it gives, and write the page of CIFAR-10 anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = range(1, parser.parse_args().seeds + 1)
    found = committed()
    bench = Bench(rows=embedded(extracted(CASE))[0], folder=FOLDER / "objectives")
    rows = {}
    for name in ROWS:
        rows[name] = [taught(bench, name, found["chosen"], seed) for seed in seeds]
        print(name, flush=True)
    told = {"command": f"nested_objectives --seeds {len(seeds)}", "rows": rows}
    (RESULTS / FILE).write_text(json.dumps(told, indent=1) + "\n")
    page(found)


def committed() -> dict[str, Any]:
    """What ``nested_cifar`` has found, its designs in their order."""
    found: dict[str, Any] = json.loads((RESULTS / f"{NAME}.json").read_text())
    chosen = [*map(str, RANKS), *MAIN]
    return found | {
        "designs": {name: found["designs"][name] for name in DESIGNS},
        "long": {name: found["long"][name] for name in MAIN},
        "chosen": {name: found["chosen"][name] for name in chosen},
    }


def taught(bench: Bench, name: str, chosen: Mapping[str, float], seed: int) -> dict[str, Any]:
    """What a network of a row gives at all ranks, trained and in between."""
    row = ROWS[name]
    rate = chosen[str(RANKS[0]) if row.alone else PAPER]
    path = bench.folder / f"{slug(name)}-s{seed}.json"
    return kept(path, lambda: _taught(bench, row, rate, seed))


def _taught(bench: Bench, row: Row, rate: float, seed: int) -> dict[str, Any]:
    network = factored(bench.dim, bench.classes, RANKS[0], seed=seed)
    teaching = Teaching(
        learning_rate=rate,
        weight_decay=DECAY,
        epochs=EPOCHS if row.alone else SHORT,
        ranks=RANKS[:1] if row.alone else RANKS,
        objective=row.objective,
    )
    passes = RankPasses if row.extra is None else partial(ExtraPasses, extra=row.extra)
    folder = bench.folder / "training"
    found = teach(network, teaching, bench.rows, seed=seed, folder=folder, passes=passes)
    told = bench.measured(network, tuple(sorted(RANKS + BETWEEN, reverse=True)))
    return {**told, "best_epoch": found.best_epoch, "logits": _spread(network, bench)}


def _spread(network: Mlp, bench: Bench) -> float:
    """Root mean square of the anchor's logits of validation rows, about each row's mean."""
    set_rank(network, RANKS[0])
    logits = logits_of(network, bench.rows["validation"])
    return float((logits - logits.mean(dim=1, keepdim=True)).square().mean().sqrt())


if __name__ == "__main__":
    main()
