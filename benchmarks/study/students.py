"""Ways to teach a student, compared on data of this study; whatever ends it, it goes on.

``python -m benchmarks.study.students NAME --search`` stops when the settings of every way are
chosen on validation, so that ``docs/results/students-NAME.json`` can be committed before the same
command without ``--search`` reads the first test row.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import distill
from benchmarks.study.common import (
    CASES,
    DATA,
    RESULTS,
    ROOT,
    RUNS,
    extracted,
    options,
    points,
    table,
    write,
)
from benchmarks.study.figure import Line, chart
from distill.bars import Bars
from distill.comparing.contenders import VIEWS
from distill.findings import Band, Comparison, Fixed, Way
from stores import open_splits

NOTHING = "·"


@dataclass(frozen=True)
class Setting:
    """A teacher of the study, and what its students learn."""

    teacher: str  # in CASES
    epochs: int  # of fine-tuning it; 0: as its config says
    kinds: tuple[str, ...] = ("head-svd", "gaussian", "pca")  # of the maps that are compared
    folds: int = 0  # more teachers, of which each training row is seen by one that never learned it
    pool: str = ""  # file of unlabeled examples, below the data folder
    note: str = ""  # what a reader of its page should know


AGAIN = (
    "These test rows were read before, by comparisons with other settings (docs/log.md): "
    "p is not corrected for that."
)
TRANSFER = (
    "The teacher comes from ImageNet, whose labels know many of these classes: this is transfer to "
    "little data, and students begin with random weights."
)
SETTINGS = {
    "clinc150": Setting("clinc150-minilm", 3, note=AGAIN),
    "clinc150-bert": Setting("clinc150-minilm", 3),
    "clinc150-held-out": Setting("clinc150-minilm", 3, folds=5),
    "clinc150-pool": Setting("clinc150-minilm", 3, pool="text/clinc150-train.parquet"),
    "clinc150-bert-pool": Setting(
        "clinc150-minilm", 3, pool="text/clinc150-train.parquet", note=AGAIN
    ),
    "cifar10": Setting("cifar10-resnet18", 0),
    "tinyimagenet32": Setting("tinyimagenet32-resnet18", 0, note=AGAIN),
    "cifar10-resnet50": Setting("cifar10-resnet50", 0),
    "tinyimagenet32-resnet50": Setting("tinyimagenet32-resnet50", 0),
    "cifar10-resnet50-tenth": Setting("cifar10-resnet50", 0),
    "tinyimagenet32-resnet50-tenth": Setting("tinyimagenet32-resnet50", 0),
    "caltech101-mobilenetv2": Setting("caltech101-mobilenetv2", 0, note=TRANSFER),
    "caltech101-deit": Setting("caltech101-deit", 0, note=TRANSFER),
}


def main() -> None:
    """Teach the teacher, store its views, project, search; then compare, unless told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--search", action="store_true", help="read no test row")
    parser.add_argument("--workers", type=int, default=0, help="processes that read the inputs")
    asked = parser.parse_args()
    run, bars = prepared(asked.name, workers=asked.workers), Bars(verbose=False, quiet=False)
    fixed = cast(Fixed, distill.compare_students(run, search_only=True, progress=bars))
    (RESULTS / f"students-{asked.name}.json").write_text(
        json.dumps(fixed.to_json(), indent=1, sort_keys=True) + "\n"
    )
    if not asked.search:
        found = cast(Comparison, distill.compare_students(run, progress=bars))
        page(asked.name, found, pool=pooled(run))


def prepared(name: str, *, workers: int = 0) -> Path:
    """The run of a setting: features, views, maps and heads."""
    setting, run = SETTINGS[name], RUNS / "students" / name
    config = ROOT / "configs" / f"students-{name}.toml"
    bars = Bars(verbose=False, quiet=False)
    case = CASES[setting.teacher]
    told: Any = {**options(case), "workers": workers}
    if setting.epochs or case.taught:  # else it is frozen as it comes
        teacher = extracted(case.name, epochs=setting.epochs, workers=workers)
        if setting.folds:
            distill.train_teacher(teacher, folds=setting.folds, progress=bars)
        told["weights"] = str(teacher / "teacher")
    if setting.pool:
        told["unlabeled"] = f"parquet:{DATA / setting.pool}"
    distill.extract(run, config=config, progress=bars, **told)
    distill.train_head(run, progress=bars)
    for kind in reversed(setting.kinds):  # the run keeps the last: that of the reference
        distill.project(run, kind=kind, progress=bars)
    return run


def pooled(run: Path) -> int:
    """How many examples without a label there are beside the training rows."""
    pool = open_splits(run / "features.zarr").get("unlabeled")
    return pool.spec.rows // max(1, pool.spec.views) if pool else 0


def page(name: str, found: Comparison, *, pool: int) -> None:
    """One page: what was compared, every way's row, what may be said."""
    header = [
        "taught by", "validation, %", "test accuracy, %", f"against {found.reference}, points",
        "p (Holm)", "worst class, %", "agreement, %", "recall@10", "bytes stored", "steps to 95 %",
        "parameters",
    ]  # fmt: skip
    rows = [cells(way) for way in found.ways]
    told = (
        f"Teacher: {100 * found.teacher_accuracy:.1f} %. Student: {found.network}, {found.epochs} "
        f"epochs; target {found.target} unless a way names its map; {found.trials} trials a way on "
        f"validation, {found.seeds} fresh seeds; {found.rows['train']} training and "
        f"{found.rows['test']} test rows"
        + (f", and {pool} without a label, which labels alone cannot use" if pool else "")
        + ".\n"
    )
    mine = (SETTINGS[name].note,) if SETTINGS[name].note else ()
    notes = "".join(f"- {note}\n" for note in (*mine, *found.notes))
    parts = (told, table(header, rows), notes, *learning(found), *drawn(name, found))
    write(f"students-{name}", f"Students compared: {name}", *parts, command=f"students {name}")


def cells(way: Way) -> list[str]:
    """A row of the page."""
    versus, shipped = way.versus, way.shipped
    low_high = (
        f"{100 * versus.value:+.1f} ({100 * versus.interval.low:+.1f} to "
        f"{100 * versus.interval.high:+.1f})"
        if versus
        else NOTHING
    )
    return [
        way.name,
        f"{100 * way.chosen.accuracy:.1f}",  # of its best trial: all there is of no finalist
        _points(way.accuracy),
        low_high,
        f"{versus.adjusted:.3f}" if versus else NOTHING,
        f"{100 * way.worst_class_accuracy:.0f}"
        if way.worst_class_accuracy is not None
        else NOTHING,
        _points(way.agreement),
        _points(way.recall),
        str(shipped.stored_bytes) if shipped else NOTHING,
        f"{way.steps.mean:.0f}" if way.steps else NOTHING,
        f"{shipped.parameters:,}" if shipped else NOTHING,
    ]


def learning(found: Comparison) -> tuple[str, ...]:
    """How each finalist was learned, and what it costs to run."""
    header = [
        "taught by", "p, uncorrected", "seconds to 95 %", "training loss", "barrier of two seeds",
        "million FLOPs", "latency, ms",
    ]  # fmt: skip
    rows = [
        [
            way.name,
            f"{way.versus.p:.3f}" if way.versus else NOTHING,
            f"{way.seconds.mean:.0f}" if way.seconds else NOTHING,
            f"{way.loss.mean:.3g}" if way.loss else NOTHING,
            f"{way.shipped.barrier:.2f}" if way.shipped.barrier is not None else NOTHING,
            f"{2e-6 * way.shipped.multiply_adds:.1f}",
            f"{1e3 * way.shipped.latency:.1f}",
        ]
        for way in found.ways
        if way.shipped
    ]
    said = (
        "The training loss is each way's own and compares with no other's. The barrier is how far "
        "the validation loss rises on the way between the weights of two seeds; seconds and "
        "latency are of this machine, with what ran beside.\n"
    )
    return ("## How they learned, and what they cost to run\n", said, table(header, rows))


def drawn(name: str, found: Comparison) -> Iterator[str]:
    """Test accuracy against what an example takes of the store, a line through a way's views."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for way in found.ways:
        if way.shipped and way.accuracy:
            place = (float(way.shipped.stored_bytes), 100 * way.accuracy.mean)
            lines.setdefault(way.name.partition(VIEWS)[0], []).append(place)
    if len({x for places in lines.values() for x, _ in places}) > 1:
        file = f"students-{name}.svg"
        chart(
            file,
            [Line(way, places) for way, places in lines.items()],
            x="stored bytes of a training example",
            y="test accuracy, %",
            log=True,
        )
        yield f"![Test accuracy against stored bytes]({file})\n"


def _points(band: Band | None) -> str:
    if band is None:
        return NOTHING
    half = float("nan") if band.interval is None else (band.interval.high - band.interval.low) / 2
    return points(band.mean, half)


if __name__ == "__main__":
    main()
