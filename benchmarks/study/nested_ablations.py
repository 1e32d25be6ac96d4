"""What each choice of `distill nest` is worth: one changed at a time, on validation rows alone.

``python -m benchmarks.study.nested_ablations NAME`` for a network of ``nested_frontier``;
``--epochs`` says how long each is taught, ``--only`` which. Whatever ends it, it goes on, and the
page has what is finished.
"""

import argparse
import shlex
import shutil
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import distill
from benchmarks.study.common import ROOT, points, table, write
from benchmarks.study.nested_frontier import SETTINGS, prepared, teacher_of
from distill.bars import Bars
from distill.config import NestConfig
from distill.findings import Nested, NestedPoint
from distill.nested_students import NestedStudent, load_nested_student
from distill.nesting import SURGICAL
from distill.runs import recall
from distill.stages.nest import START
from students.nested import dense_costs, nested_layers

BUDGETS = (0.5, 0.35)
TOKENS = 10  # of the text that FLOPs are counted at
ONE_RANK = "one rank for all layers"
VARIANTS: dict[str, dict[str, Any]] = {
    "as configured": {},
    ONE_RANK: {},
    "plain SVD start": {"init": "svd"},
    "paper's objective": {"weighing": "uncertainty", "sampling": "widening", "distill": "none"},
    "labels alone": {"distill": "none"},
    "hints": {"hint_weight": 5.0},
    "gauge forms": {"gauges": True},
    "own biases": {"own_biases": True},
    "every budget each step": {"sampling": "every"},
}


def main() -> None:
    """Nest each variant, then one page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", default="", help="names of variants; all that change something")
    parser.add_argument("--precision", default="auto", help="of the steps: bfloat16, float32")
    asked = parser.parse_args()
    run = prepared(asked.name, into=f"{asked.name}-ablations")
    untold = (teacher_of(asked.name) / "config.toml").read_text()
    for variant in asked.only.split(",") if asked.only else _changing(asked.name):
        told = VARIANTS[variant]
        if variant == ONE_RANK:
            told = {"ranks": _alike(run), "floor": 0.0, "budgets": []}
        else:
            told = {**told, "budgets": list(BUDGETS)}
        _cut_alike(run, _slug(variant), told)
        (run / "config.toml").write_text(untold)  # a run keeps what it is told
        found = distill.nest(
            run,
            config=_config(asked.name),
            name=_slug(variant),
            epochs=asked.epochs,
            precision=asked.precision,
            progress=Bars(verbose=False, quiet=False),
            **told,
        )
        for point in found.points:
            print(f"{variant}, {point.share:.3f}: {point.untaught:.4f} -> {point.accuracy:.4f}")
        _page(asked.name, run, asked.epochs, asked.precision)


def _config(name: str) -> Path:
    return ROOT / "configs" / f"nested-{name}.toml"


def _changing(name: str) -> list[str]:
    """The variants that are not what the config says anyway."""
    plain = NestConfig(**tomllib.loads(_config(name).read_text())["nest"]).model_dump()
    return [
        variant
        for variant, told in VARIANTS.items()
        if not told or any(plain[setting] != value for setting, value in told.items())
    ]


def _cut_alike(run: Path, name: str, told: Mapping[str, Any]) -> None:
    """What is cut by the settings of the config begins where the variant as configured began."""
    start, own = (run / "nested" / each / START for each in (_slug("as configured"), name))
    if start.is_file() and not own.exists() and not set(told) & set(SURGICAL):
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(start, own)


def _slug(variant: str) -> str:
    return variant.replace(",", "").replace("'", "").replace(" ", "-")


@torch.no_grad()
def _alike(run: Path) -> list[int]:
    """The full rank, and the most that all layers alike may have at each budget that is taught."""
    folder = run / "nested" / _slug("as configured")
    found = recall(folder / "nested.json", Nested)
    if found is None:
        sys.exit("the variant as configured comes first")
    student = load_nested_student(folder)
    network = student.network
    costs, layers = dense_costs(network, (_example(student),)), nested_layers(network)
    full = max(layer.full_rank for layer in layers.values())
    ranks = [full]
    for point in found.points:
        if point.share > 0.999:
            continue
        within = [
            rank
            for rank in range(8, full, 8)
            if costs.share({n: min(rank, each.full_rank) for n, each in layers.items()})
            <= point.share
        ]
        ranks.extend(within[-1:])
    return sorted(set(ranks), reverse=True)


def _example(student: NestedStudent) -> dict[str, torch.Tensor]:
    """A batch of one, of any content: what is counted is the same."""
    if student.modality == "image":
        return {"pixel_values": torch.zeros(1, *student.preprocessing["input_size"])}
    kinds = ("input_ids", "attention_mask", "token_type_ids")
    return {kind: torch.full((1, TOKENS), int(kind != "token_type_ids")) for kind in kinds}


def _page(name: str, run: Path, epochs: int, precision: str) -> None:
    rows, shown, dense = [], [], 0.0
    for variant in VARIANTS:
        found = recall(run / "nested" / _slug(variant) / "nested.json", Nested)
        if found is None or found.epochs != epochs:
            continue
        shown.append(variant)
        dense = found.dense_accuracy
        cells = [variant]
        for budget in (1.0, *BUDGETS, 0.0):
            point = _at(found, budget)
            cells += [
                f"{100 * point.share:.1f}",
                points(point.untaught, float("nan")),
                points(point.accuracy, float("nan")),
            ]
        rows.append(cells)
    header = ["changed"] + [
        f"{what}, {where}"
        for where in ("whole", *(f"within {100 * b:.0f} %" for b in BUDGETS), "least")
        for what in ("FLOPs %", "before", "taught")
    ]
    told = (
        f"Validation accuracy in per cent, one seed; epochs: {epochs}. The dense network: "
        f"{100 * dense:.1f}. Of the settings in `configs/nested-{name}.toml` one is changed in "
        "each row; what both budgets pay for is taught. No test row is read.\n"
    )
    write(
        f"nested-{name}-ablations",
        f"What each choice of nesting is worth: {name}",
        told,
        table(header, rows),
        command=f"nested_ablations {name} --epochs {epochs}"
        + ("" if precision == "auto" else f" --precision {precision}")
        + ("" if shown == _changing(name) else f" --only {shlex.quote(','.join(shown))}"),
    )


def _at(found: Nested, budget: float) -> NestedPoint:
    """The dearest point within the budget; the cheapest of all where there is none."""
    ordered = sorted(found.points, key=lambda point: point.share)
    within = [point for point in ordered if point.share <= budget + 1e-6]
    return within[-1] if within else ordered[0]


if __name__ == "__main__":
    main()
