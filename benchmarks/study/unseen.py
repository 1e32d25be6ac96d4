"""Where a map must be made before its data are known: other classes, another data set, 50 rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.study.common import extracted, mean_and_half, points, table, write
from projections import (
    Projection,
    ProjectionError,
    fit_projections,
    gather_moments,
    make_projection,
)
from stores import open_splits
from students import HeadError, fit_head

L2 = (1e-4, 1e-3, 1e-2)
SEEDS = range(5)
KINDS = ("full", "gaussian", "orthogonal", "pca", "discriminant", "head-svd")
FEW = 50


@dataclass(frozen=True)
class Rows:
    """Features and labels of the three splits."""

    features: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return int(max(found.max() for found in self.labels.values())) + 1

    def only(self, wanted: np.ndarray) -> "Rows":
        """The rows of some classes, which are numbered anew."""
        place = np.full(self.classes, -1, dtype=np.int64)
        place[wanted] = np.arange(len(wanted))
        kept = {split: place[found] >= 0 for split, found in self.labels.items()}
        return Rows(
            {split: found[kept[split]] for split, found in self.features.items()},
            {split: place[found][kept[split]] for split, found in self.labels.items()},
        )

    def few(self, rows: int, seed: int) -> "Rows":
        """So many training rows, drawn by seed; the other splits as they are."""
        chosen = np.random.default_rng(seed).permutation(len(self.labels["train"]))[:rows]
        return Rows(
            {**self.features, "train": self.features["train"][chosen]},
            {**self.labels, "train": self.labels["train"][chosen]},
        )


def load(name: str) -> Rows:
    """The frozen features of a case."""
    stores = open_splits(extracted(name) / "features.zarr")
    return Rows(
        {split: store.features().astype(np.float32) for split, store in stores.items()},
        {split: store.labels() for split, store in stores.items()},
    )


def accuracy(rows: Rows, projection: Projection | None) -> float:
    """Of a head trained on the mapped training rows, on the mapped test rows."""
    mapped = {
        split: found if projection is None else projection.transform(found)
        for split, found in rows.features.items()
    }
    head = fit_head(
        mapped["train"], rows.labels["train"], mapped["validation"], rows.labels["validation"],
        classes=rows.classes, l2=L2, max_iterations=500,
    )  # fmt: skip
    return float(np.mean(head.predict(mapped["test"]) == rows.labels["test"]))


def fitted(kind: str, rows: Rows, k: int, seed: int) -> Projection | None:
    """A map of this kind, knowing these rows only."""
    dim = rows.features["train"].shape[1]
    if kind == "full":
        return None
    if kind in ("gaussian", "orthogonal"):
        return make_projection(kind, dim_in=dim, dim_out=k, seed=seed)
    labels = rows.labels["train"]
    moments = gather_moments([(rows.features["train"], labels)], classes=rows.classes)
    head = None
    if kind == "head-svd":
        head = fit_head(
            rows.features["train"], labels, rows.features["validation"], rows.labels["validation"],
            classes=rows.classes, l2=L2, max_iterations=500,
        ).weight  # fmt: skip
    (found,) = fit_projections(kind, moments, [k], head=head)
    return found


Scene = Callable[[int], tuple[Rows, Rows]]  # seed -> what the map is fitted on, what it is used on


def half_the_classes(rows: Rows) -> Scene:
    """Fitted on one half of the classes, used to tell the other half apart."""

    def scene(seed: int) -> tuple[Rows, Rows]:
        order = np.random.default_rng(seed).permutation(rows.classes)
        half = rows.classes // 2
        return rows.only(np.sort(order[:half])), rows.only(np.sort(order[half:]))

    return scene


def few_rows(rows: Rows) -> Scene:
    """Fitted on 50 training rows, used on all."""
    return lambda seed: (rows.few(FEW, seed), rows)


def other_data(known: Rows, used: Rows) -> Scene:
    """Fitted on one data set, used on another."""
    return lambda _: (known, used)


def same_data(rows: Rows) -> Scene:
    """Fitted on what it is used on: what knowing the data is worth."""
    return lambda _: (rows, rows)


def measured(kind: str, scene: Scene, k: int) -> tuple[float, float] | str:
    """Mean and half its interval over seeds, or why there is none."""
    found = []
    for seed in SEEDS:
        known, used = scene(seed)
        try:
            found.append(accuracy(used, fitted(kind, known, k, seed)))
        except (ProjectionError, HeadError) as error:
            return f"refused: {error}"
    return mean_and_half(found)


def compared(found: dict[tuple[str, int], tuple[float, float] | str], widths: Sequence[int]) -> str:
    """How far ahead of the better random map the best fitted one is, at every width."""
    told = []
    for k in widths:
        random, aware = (
            max((mean[0], kind) for kind in kinds if not isinstance(mean := found[kind, k], str))
            for kinds in (("gaussian", "orthogonal"), ("pca", "discriminant", "head-svd"))
        )
        told.append(f"{aware[1]} {100 * (aware[0] - random[0]):+.1f} at k = {k}")
    return f"The best fitted map against the better random one, in points: {', '.join(told)}.\n"


def tables(scenes: dict[str, tuple[Scene, tuple[int, ...]]]) -> Iterator[str]:
    """One table a scene."""
    for title, (scene, widths) in scenes.items():
        print(title, flush=True)
        found = {
            (kind, k): measured(kind, scene, k)
            for kind in KINDS
            for k in (widths[:1] if kind == "full" else widths)
        }
        rows = []
        for kind in KINDS:
            cells = [found.get((kind, k), "") for k in widths]
            rows.append([kind, *(one if isinstance(one, str) else points(*one) for one in cells)])
        header = ["map", *(f"k = {k}" for k in widths)]
        yield f"## {title}\n\n{table(header, rows)}\n{compared(found, widths)}"


def main() -> None:
    """All scenes."""
    clinc, sst2 = load("clinc150-minilm"), load("sst2-minilm")
    caltech = load("caltech101-mobilenetv2")
    text, image = (12, 24, 48, 96), (20, 40, 80, 160)
    scenes = {
        "CLINC150, fitted on the data it is used on": (same_data(clinc), text),
        "CLINC150, fitted on the other half of the classes": (half_the_classes(clinc), text),
        f"CLINC150, fitted on {FEW} rows": (few_rows(clinc), (12, 24, 48)),
        "CLINC150, fitted on SST-2": (other_data(sst2, clinc), text),
        "SST-2, fitted on CLINC150": (other_data(clinc, sst2), text),
        "SST-2, fitted on the data it is used on": (same_data(sst2), text),
        "Caltech-101, fitted on the other half of the classes": (half_the_classes(caltech), image),
        f"Caltech-101, fitted on {FEW} rows": (few_rows(caltech), (20, 40)),
    }
    write(
        "unseen",
        "Maps made before their data are known",
        "Test accuracy in %, mean and 95 % interval over 5 seeds (of the map where it is random, "
        "of the halves and the rows where they are drawn; a fitted map on fixed rows has no "
        "spread). The first row of each table is the full width.\n",
        *tables(scenes),
    )


if __name__ == "__main__":
    main()
