"""Cross-validation: every cell that is not there yet, one seed after the other.

Each cell is one JSON file, written whole when it is done: whatever kills a sweep, the cells that
were finished stay. Beside the full head's cell lies what the seed's other cells take from it.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float32, Int64
from safetensors import SafetensorError
from safetensors.numpy import load, save

from distill.findings import FindingError
from distill.progress import Progress
from distill.side_by_side import side_by_side
from distill.sweeping.cells import (
    Cell,
    cell_name,
    digest_of,
    relative_margins,
    score_heads,
    spread_of,
)
from distill.sweeping.folds import place_of
from distill.sweeping.full import full_heads, logits_of
from distill.sweeping.maps import FULL, Part, maps_of, middle
from distill.sweeping.parts import Folded, fold_rows
from distill.sweeping.rows import Rows
from distill.whole import whole
from projections import Projection, ProjectionError, retained_separation
from students import fit_path

Name = tuple[str, int]  # kind and width
Share = float | None


@final
@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be made: widths of each kind, seeds, and how heads are fitted."""

    dims: Mapping[str, tuple[int, ...]]  # of each kind; the full head is always made
    seeds: int
    classes: int
    l2: tuple[float, ...]
    max_iterations: int
    neighbours: int


@final
@dataclass(frozen=True, eq=False)
class Full:
    """What the full head of a seed gives to its other cells."""

    weight: Float32[np.ndarray, "classes dim"]  # at the middle l2
    bias: Float32[np.ndarray, " classes"]
    margins: Float32[np.ndarray, " held"]


def cross_validate(
    rows: Rows, labels: Int64[np.ndarray, " rows"], work: Work, folder: Path, progress: Progress
) -> dict[Name, list[Cell]]:
    """All cells by kind and width, in the order of their seeds; those on disk are kept.

    The rows are read once for every partition, that is for every five seeds; rows that do not
    fit into memory are also read for the maps of each cell.
    """
    names = [(FULL, rows.dim), *((kind, k) for kind, dims in work.dims.items() for k in dims)]
    found: dict[Name, list[Cell]] = {name: [] for name in names}
    folded: dict[int, Folded] = {}
    with progress.task("cross-validate", total=work.seeds * len(names), unit="cells") as advance:
        for seed in range(work.seeds):
            cells = {name: cell for name in names if (cell := read_cell(folder, *name, seed))}
            advance(len(cells))
            missing = [name for name in names if name not in cells]
            if missing:
                number, held = place_of(seed)
                if number not in folded:
                    folded.clear()  # the moments of one partition at a time
                    folded[number] = fold_rows(
                        rows, labels, number, classes=work.classes, neighbours=work.neighbours
                    )
                one = _Seed(rows, labels, work, folder, folded[number], seed, held)
                cells |= one.make(missing, advance)
            for name in names:
                found[name].append(cells[name])
    return found


def read_cell(folder: Path, kind: str, dim_out: int, seed: int) -> Cell | None:
    """A finished cell; None where there is none that can be read."""
    path = folder / f"{cell_name(kind, dim_out, seed)}.json"
    try:
        return Cell.load(path) if path.is_file() else None
    except FindingError:
        return None


@final
@dataclass(frozen=True, eq=False)
class _Seed:
    """One seed: its held-out fold, and what is fitted on the others."""

    rows: Rows
    labels: Int64[np.ndarray, " rows"]
    work: Work
    folder: Path
    folded: Folded
    seed: int
    held: int

    def make(self, missing: Sequence[Name], advance: Callable[[int], None]) -> dict[Name, Cell]:
        """The missing cells, written as they are done."""
        split = self.folded.split(self.held)
        moments = self.folded.training_moments(self.held)
        made: dict[Name, Cell] = {}
        name = (FULL, self.rows.dim)
        full = None if name in missing else read_full(self._full_path())
        if full is None:
            made[name], full = self._make_full()
            advance(name in missing)
        part = Part(
            moments=moments, weight=full.weight, bias=full.bias, rows=self.rows,
            labels=self.labels, chosen=split.fit,
        )  # fmt: skip
        with closing(self._cells(self._maps(missing, part), full)) as cells:
            for cell in cells:
                made[cell.kind, cell.dim_out] = cell
                advance(1)
        return made

    def _maps(self, missing: Sequence[Name], part: Part) -> Iterator[tuple[Projection, Share]]:
        """Each missing map, and the share of the classes' separation that it retains."""
        for kind, family in self.work.dims.items():
            maps = maps_of(
                kind, [k for other, k in missing if other == kind], part,
                widest=max(family), seed=self.seed,
                l2=middle(self.work.l2), max_iterations=self.work.max_iterations,
            )  # fmt: skip
            yield from zip(maps, _separations(part, maps), strict=True)

    def _cells(self, maps: Iterator[tuple[Projection, Share]], full: Full) -> Generator[Cell]:
        """The cells of these maps: side by side in memory, else as many as are read together."""
        if self.rows.fits:

            def make(pair: tuple[Projection, Share]) -> Cell:
                (mapped,) = self.rows.mapped(pair[:1])
                return self._make(*pair, mapped, full)

            yield from side_by_side(make, maps, workers=self.rows.workers(self.work.classes))
            return
        pairs = list(maps)
        mapped_rows = self.rows.mapped([projection for projection, _ in pairs])
        for (projection, share), mapped in zip(pairs, mapped_rows, strict=True):
            yield self._make(projection, share, mapped, full)

    def _make(
        self,
        projection: Projection,
        separation: Share,
        mapped: Float32[np.ndarray, "rows k"],
        full: Full,
    ) -> Cell:
        work, split = self.work, self.folded.split(self.held)
        fitted_on = mapped[split.fit]
        heads = fit_path(
            fitted_on, self.labels[split.fit],
            classes=work.classes, l2=work.l2, max_iterations=work.max_iterations,
        )  # fmt: skip
        calibrating, held = (
            [head.logits(mapped[numbers]) for head in heads]
            for numbers in (split.calibrate, split.held)
        )
        geometry = self.folded.geometries[self.held]
        mean, std, recall = geometry.measure(mapped[geometry.sample])
        cell = Cell(
            kind=projection.kind,
            dim_out=projection.dim_out,
            seed=self.seed,
            held_rows=len(split.held),
            map_digest=str(projection.describe()["digest"]),
            head_digest=digest_of(heads),
            scores=score_heads(
                heads,
                calibrating,
                held,
                self.labels,
                split,
                spread=spread_of(fitted_on),
                reference=full.margins,
            ),
            distortion=mean,
            distortion_std=std,
            recall=recall,
            separation=separation,
        )
        cell.save(self.folder / f"{cell.name}.json")
        return cell

    def _make_full(self) -> tuple[Cell, Full]:
        work, split = self.work, self.folded.split(self.held)
        moments = self.folded.training_moments(self.held)
        heads = full_heads(
            self.rows, self.labels, split.fit, moments,
            l2=work.l2, max_iterations=work.max_iterations,
        )  # fmt: skip
        calibrating, held = (
            logits_of(heads, self.rows, numbers) for numbers in (split.calibrate, split.held)
        )
        at = next(at for at, head in enumerate(heads) if head.l2 == middle(work.l2))
        spread = float(np.sqrt(np.trace(moments.covariance))) or 1.0
        far = relative_margins(held[at], self.labels[split.held], heads[at], spread)
        full = Full(heads[at].weight, heads[at].bias, far)
        cell = Cell(
            kind=FULL,
            dim_out=self.rows.dim,
            seed=self.seed,
            held_rows=len(split.held),
            map_digest="",
            head_digest=digest_of(heads),
            scores=score_heads(
                heads, calibrating, held, self.labels, split, spread=spread, reference=None
            ),
            distortion=1.0,
            distortion_std=0.0,
            recall=1.0,
            separation=1.0,
        )
        path = self._full_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as scratch:  # before the cell, which says that both are there
            scratch.write_bytes(
                save({"weight": full.weight, "bias": full.bias, "margins": full.margins})
            )
        cell.save(self.folder / f"{cell.name}.json")
        return cell, full

    def _full_path(self) -> Path:
        return self.folder / f"{cell_name(FULL, self.rows.dim, self.seed)}.safetensors"


def full_margins(folder: Path, dim: int, seeds: int) -> Float32[np.ndarray, " held"]:
    """The full heads' margins of the rows that each seed held out; empty where none can be read."""
    found = [
        read_full(folder / f"{cell_name(FULL, dim, seed)}.safetensors") for seed in range(seeds)
    ]
    return np.concatenate([np.empty(0, np.float32), *(one.margins for one in found if one)])


def read_full(path: Path) -> Full | None:
    """What a full head left for the other cells of its seed; None where it cannot be read."""
    try:
        tensors = load(path.read_bytes())
        return Full(tensors["weight"], tensors["bias"], tensors["margins"])
    except (OSError, SafetensorError, KeyError):
        return None


def _separations(part: Part, maps: Sequence[Projection]) -> list[Share]:
    """Share of the class pairs' separation that each map retains; None where nothing is apart."""
    try:
        found = retained_separation(part.moments, [one.matrix for one in maps])
    except ProjectionError:  # the means of all classes are equal
        return [None] * len(maps)
    return [one.mean for one in found]
