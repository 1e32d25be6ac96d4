"""Project: every split of a store mapped to fewer dimensions, for all targets in one pass.

Each chunk of the source is read at most once, whatever the number of targets, and mapped by one
product a target: the bytes of a projected store depend on the source and its own map, not on what
else was made with it, nor on where an earlier attempt was killed.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from sklearn import config_context

from distill.errors import StageError
from distill.progress import Progress
from distill.side_by_side import side_by_side
from projections import Projection
from stores import FeatureStore, StoreSpec, StoreWriter, create_store, default_chunk_rows

MOST_CHUNK_ROWS = 1 << 16  # of a target: a narrow one would otherwise be a single unit of work


@dataclass(frozen=True)
class Target:
    """One projected store to be made: a split of it lies at ``root / split``."""

    name: str
    factor_asked: int | float
    projection: Projection
    root: Path
    dtype: str = "float32"  # of the stored rows


def dim_for_factor(dim: int, factor: int | float) -> int:
    """Width after compression: dim / factor, rounded (halves to even).

    ``StageError`` where the factor is below 1 or leaves no dimension.
    """
    if not (math.isfinite(factor) and factor >= 1):
        raise StageError(f"a compression factor must be at least 1, got {factor:g}")
    dim_out = round(dim / factor)
    if dim_out < 1:
        raise StageError(
            f"factor {factor:g} leaves nothing of {dim} dimensions; the largest possible is "
            f"{dim}, which keeps 1"
        )
    return dim_out


def project(
    sources: Mapping[str, FeatureStore], targets: Sequence[Target], *, progress: Progress
) -> int:
    """Write every split of every target; the rows written, over all of them.

    Finished stores are left as they are, begun ones are gone on with. float16 features are mapped
    in float32, and stored as their target says. ``StageError`` where a map does not fit its source,
    ``InvalidRowsError`` where a mapped row is no longer finite, or beyond what float16 can hold.
    """
    _check(sources, targets)
    return sum(
        _project_split(split, source, targets, progress) for split, source in sources.items()
    )


@dataclass(frozen=True)
class _Mapped:
    """One source chunk under the maps that want it, by their place in the list of targets."""

    start: int
    stop: int
    rows: dict[int, Float32[np.ndarray, "rows dim_out"]]


class _Filling:
    """A target's split on its way: gathers mapped source chunks until one of its own is full."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self.pending = frozenset(writer.pending())
        self._rows: Float32[np.ndarray, "rows dim_out"] | None = None

    def wants(self, start: int) -> bool:
        """Whether the source chunk that begins at this row belongs to what is to be written."""
        return start // self.writer.spec.chunk_rows in self.pending

    def take(
        self,
        start: int,
        mapped: Float32[np.ndarray, "rows dim_out"],
        ids: Int64[np.ndarray, " all"],
        labels: Int64[np.ndarray, " all"] | None,
    ) -> int:
        """Keep one mapped chunk, and write the target's chunk if it is full now; rows written."""
        spec = self.writer.spec
        index = start // spec.chunk_rows
        first, last = spec.rows_of(index)
        if self._rows is None:
            self._rows = np.empty((last - first, spec.dim), dtype=np.float32)
        stop = start + len(mapped)
        self._rows[start - first : stop - first] = mapped
        if stop < last:
            return 0
        self.writer.write(
            index,
            ids=ids[first:last],
            features=self._rows,
            labels=None if labels is None else labels[first:last],
        )
        self._rows = None
        return last - first


def _project_split(
    split: str, source: FeatureStore, targets: Sequence[Target], progress: Progress
) -> int:
    with ExitStack() as opened:
        fillings = [
            _Filling(opened.enter_context(create_store(target.root / split, _spec(source, target))))
            for target in targets
        ]
        chunks = [source.spec.rows_of(index) for index in range(source.spec.chunks)]
        wanted = [rows for rows in chunks if any(filling.wants(rows[0]) for filling in fillings)]
        if not wanted:
            return 0
        ids = source.ids()
        labels = source.labels() if source.spec.labelled else None
        advance = opened.enter_context(
            progress.task(f"project {split}", total=source.spec.rows, unit="rows")
        )
        advance(source.spec.rows - sum(stop - start for start, stop in wanted))

        def mapped(rows: tuple[int, int]) -> _Mapped:
            maps = {
                place: target.projection
                for place, (target, filling) in enumerate(zip(targets, fillings, strict=True))
                if filling.wants(rows[0])
            }
            return _map_chunk(source, *rows, maps)

        written = 0
        # closed with the rest: after an error nothing goes on reading, and BLAS has its threads
        chunks_mapped = opened.enter_context(closing(side_by_side(mapped, wanted)))
        for chunk in chunks_mapped:
            for place, rows in chunk.rows.items():
                written += fillings[place].take(chunk.start, rows, ids, labels)
            advance(chunk.stop - chunk.start)
        return written


def _map_chunk(
    source: FeatureStore, start: int, stop: int, maps: Mapping[int, Projection]
) -> _Mapped:
    features = source.features(start, stop).astype(np.float32, copy=False)
    # Rows in a finished store are finite: scikit-learn need not look again for each target. What
    # overflows under the map becomes infinite, and the writer refuses it by name.
    with config_context(assume_finite=True), np.errstate(over="ignore", invalid="ignore"):
        rows = {place: projection.transform(features) for place, projection in maps.items()}
    return _Mapped(start, stop, rows)


def _spec(source: FeatureStore, target: Target) -> StoreSpec:
    """Chunks are whole numbers of source chunks, so that the products lie on the source's grid."""
    spec, dim_out = source.spec, target.projection.dim_out
    before = spec.made_by.get("projection")  # as the features were made
    most = min(MOST_CHUNK_ROWS, default_chunk_rows(dim_out, target.dtype))
    at_once = max(1, min(most, spec.rows) // spec.chunk_rows)
    return StoreSpec(
        rows=spec.rows,
        dim=dim_out,
        dtype=target.dtype,
        labelled=spec.labelled,
        classes=spec.classes,
        views=spec.views,
        chunk_rows=at_once * spec.chunk_rows,
        made_by={
            **spec.made_by,
            **({"projected_before": before} if before else {}),
            "projection": target.projection.describe(),
            "source": source.digest,
        },
    )


def _check(sources: Mapping[str, FeatureStore], targets: Sequence[Target]) -> None:
    for target in targets:
        for split, source in sources.items():
            if target.projection.dim_in != source.spec.dim:
                raise StageError(
                    f"{target.name} maps rows of {target.projection.dim_in}, but the {split} "
                    f"features at {source.path} have {source.spec.dim} dimensions"
                )
    roots = [target.root for target in targets]
    for target in targets:
        if roots.count(target.root) > 1:
            raise StageError(f"two targets would be written to {target.root}: name each once")
