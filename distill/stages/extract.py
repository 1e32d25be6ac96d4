"""The extract stage: a frozen teacher over every split, chunk by chunk, into feature stores.

Beside the splits of the data there may be ``views``, augmented views of the training examples, and
``unlabeled``, the training examples of other data. With a projection only mapped rows are stored.

A batch never spans two chunks and is a function of its chunk alone (texts are sorted by length
*within* the chunk), so that a run that was killed and begun again writes the same bytes. Begun
again with batches of another size it writes the same rows, up to rounding.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from sklearn import config_context
from torch.utils.data import DataLoader

from distill.allocator import memory_kept
from distill.config import ExtractConfig
from distill.datasets import Dataset
from distill.errors import StageError
from distill.findings import Extracted, ExtractedSplit
from distill.held_out import HeldOut
from distill.progress import Progress
from distill.runs import POOL, VIEWS
from distill.sources import Source, refuse_other_views, sources_of
from distill.views import Views
from projections import Projection
from stores import (
    IncompleteStoreError,
    MissingStoreError,
    StoreDamagedError,
    StoreSpec,
    StoreWriter,
    create_store,
    default_chunk_rows,
    even_chunk_rows,
    recorded_spec,
    repair_store,
    verify_store,
)
from teachers import Outputs, Prepared, Teacher

LEARNED = ("train", VIEWS)  # splits of examples that a taught teacher learned
MOST_CHUNK_ROWS = 1024  # what a kill can lose: under a minute of ResNet-50 on two cores
LIBRARIES = ("numpy", "torch", "timm", "torchvision", "transformers", "pillow", "zarr")


@memory_kept()
def extract(
    dataset: Dataset,
    teacher: Teacher,
    root: Path,
    *,
    settings: ExtractConfig,
    made_by: Mapping[str, Any],
    workers: int,
    progress: Progress,
    repair: bool = False,
    views: Views | None = None,
    pool: Dataset | None = None,
    projection: Projection | None = None,
    held_out: HeldOut | None = None,
) -> Extracted:
    """Fill ``root``/<split> for every split; what is there already is not made again.

    ``workers`` processes read and prepare inputs (0: this one does). ``made_by`` is recorded
    over what the stage records itself. ``repair`` first takes away what is damaged. ``views`` of
    every training example become the split ``views``; of the training examples of ``pool`` the
    split ``unlabeled`` is made, from the same views if there are any. ``projection`` maps features
    as they are made: their full width is never stored. With ``held_out`` every training example,
    and every view of it, goes through the teacher that never learned it. Raises ``StageError`` for
    a pool of another modality and for mixed views of rows that are held out,
    ``StoreMismatchError`` where other views are stored, what stores raise, and whatever an
    unreadable input raises, naming it.
    """
    started = time.perf_counter()
    written = 0
    sources = sources_of(dataset, views, pool)
    for source in sources:
        refuse_other_views(root / source.name, source)
    check_held_out(held_out, views)
    seen = {} if held_out is None else dict.fromkeys(LEARNED, held_out)
    dim = teacher.card.dim if projection is None else projection.dim_out
    specs = specs_of(
        sources,
        teacher,
        root,
        settings=settings,
        made_by=made_by,
        projection=projection,
        held_out=held_out,
    )
    for source in sources:
        if repair:
            _take_damage_away(root / source.name, progress)
        with create_store(root / source.name, specs[source.name]) as writer:
            work = _Work(
                source,
                teacher,
                projection,
                settings.batch_size,
                workers,
                seen.get(source.name),
            )
            written += _fill(writer, work, progress)
    seconds = time.perf_counter() - started
    return Extracted(
        teacher=teacher.card.name,
        dataset=dataset.name,
        dim=dim,
        logits=len(teacher.card.classes),
        dtype=settings.dtype,
        splits=tuple(
            ExtractedSplit(split=source.name, rows=len(source.ids), skipped=source.skipped)
            for source in sources
        ),
        bytes=sum(_bytes(root / source.name) for source in sources),
        seconds=seconds,
        rows_written=written,
        rows_per_second=written / seconds,
        notes=teacher.card.notes,
    )


def specs_of(
    sources: Sequence[Source],
    teacher: Teacher,
    root: Path,
    *,
    settings: ExtractConfig,
    made_by: Mapping[str, Any],
    projection: Projection | None = None,
    held_out: HeldOut | None = None,
) -> dict[str, StoreSpec]:
    """What the store of each source promises, in the chunks that it was begun with."""
    origin = {} if projection is None else {"projection": projection.describe()}
    dim = teacher.card.dim if projection is None else projection.dim_out
    seen = {} if held_out is None else dict.fromkeys(LEARNED, held_out)
    return {
        source.name: _as_begun(
            root / source.name,
            _spec(
                source,
                teacher,
                dim,
                settings,
                {**origin, **_held(seen.get(source.name)), **made_by},
            ),
        )
        for source in sources
    }


@dataclass(frozen=True)
class _Work:
    """One source on its way through the teacher."""

    source: Source
    teacher: Teacher
    projection: Projection | None
    batch_size: int
    workers: int
    held_out: HeldOut | None

    def embed(self, rows: Int64[np.ndarray, " rows"], prepared: Prepared) -> Outputs:
        """What the teacher sees of some rows, or that of each row's fold."""
        if self.held_out is None:
            return self.teacher.embed(prepared)
        return self.held_out.embed(self.source.ids[rows], prepared)


def check_held_out(held_out: HeldOut | None, views: Views | None) -> None:
    """Refuse mixed views of rows that are held out; ``StageError``."""
    if held_out is not None and views is not None and views.mix != "none":
        raise StageError(
            "a view that mixes two examples is held out of no fold: extract without --mix, or "
            "without --held-out"
        )


def _held(held_out: HeldOut | None) -> dict[str, Any]:
    return {} if held_out is None else {"held_out": held_out.describe()}


def _spec(
    source: Source,
    teacher: Teacher,
    dim: int,
    settings: ExtractConfig,
    made_by: Mapping[str, Any],
) -> StoreSpec:
    """What the store of one split promises, and who makes it."""
    rows = len(source.ids)
    most = default_chunk_rows(dim, settings.dtype, most=MOST_CHUNK_ROWS)
    seen = source.views
    views = {"views": seen.describe(), "views_digest": source.views_digest} if seen else {}
    labelled = source.labels is not None
    return StoreSpec(
        rows=rows,
        dim=dim,
        dtype=settings.dtype,
        logits=len(teacher.card.classes),
        labelled=labelled,
        classes=() if source.name == POOL else tuple(source.dataset.classes),
        views=seen.count if seen else 1,
        chunk_rows=even_chunk_rows(rows, most, multiple=settings.batch_size),
        made_by={**_origin(source.dataset, teacher), "split": source.name, **views, **made_by},
    )


def _as_begun(path: Path, spec: StoreSpec) -> StoreSpec:
    """The spec in the chunks that a store here was begun with.

    They were cut for the batches of then; a smaller batch, as after running out of memory, goes
    on with the same rows and need not divide a chunk.
    """
    try:
        return replace(spec, chunk_rows=recorded_spec(path).chunk_rows)
    except (MissingStoreError, StoreDamagedError):  # begun now, or told where it is opened
        return spec


def _origin(dataset: Dataset, teacher: Teacher) -> dict[str, Any]:
    """Everything that decides the rows; versions and precision are recorded, never compared."""
    card = teacher.card
    return {
        "stage": "extract",
        "teacher": card.name,
        "weights": card.weights,
        "preprocessing": dict(card.preprocessing),
        "layer": card.layer,
        "pooling": card.pooling,
        "options": dict(card.options),
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
            "computed": f"{teacher.dtype} on {teacher.device}",
            "threads": torch.get_num_threads(),
        },
    }


def _take_damage_away(path: Path, progress: Progress) -> None:
    """What is damaged becomes pending again; what was never finished is resumed anyway."""
    try:
        damages = verify_store(path)
    except (MissingStoreError, IncompleteStoreError):
        return
    for damage in damages:
        progress.say(f"{path.name}: {damage}; making it again")
    repair_store(path, damages)


def _fill(writer: StoreWriter, work: _Work, progress: Progress) -> int:
    """Write the chunks still pending; returns how many rows that was."""
    pending, source = writer.pending(), work.source
    rows = sum(stop - start for start, stop in map(writer.spec.rows_of, pending))
    if not pending:
        progress.detail(f"{source.name}: all {writer.spec.rows} rows are there already")
        return 0
    if rows < writer.spec.rows:
        progress.say(f"{source.name}: going on, {rows} of {writer.spec.rows} rows to do")
    plan = _Plan(writer.spec, pending, source.inputs, work.batch_size, work.teacher.lengths)
    batches = _prepared(plan, source.inputs, work.teacher, work.workers)
    with progress.task(f"extract {source.name}", total=rows, unit="rows") as advance:
        for index in pending:
            start, stop = writer.spec.rows_of(index)
            features, logits = _chunk(batches, work, start, stop, advance)
            writer.write(
                index,
                ids=source.ids[start:stop],
                labels=None if source.labels is None else source.labels[start:stop],
                features=features
                if work.projection is None
                else _mapped(features, work.projection),
                logits=logits,
            )
    return rows


def _mapped(
    features: Float32[np.ndarray, "rows dim"], projection: Projection
) -> Float[np.ndarray, "rows dim_out"]:
    """Under the map; what is not finite stays so, for the writer to refuse by name."""
    with config_context(assume_finite=True), np.errstate(over="ignore", invalid="ignore"):
        return projection.transform(features)


def _chunk(
    batches: Iterator[tuple[np.ndarray, Prepared]],
    work: _Work,
    start: int,
    stop: int,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Features and logits of rows start to stop, in the order of the rows."""
    card = work.teacher.card
    features = np.empty((stop - start, card.dim), dtype=np.float32)
    logits = np.empty((stop - start, len(card.classes)), dtype=np.float32)
    done = 0
    while done < stop - start:
        rows, prepared = next(batches)
        found = work.embed(rows, prepared)
        features[rows - start] = found.features
        if found.logits is not None:
            logits[rows - start] = found.logits
        done += len(rows)
        advance(len(rows))
    return features, logits if card.classes else None


@dataclass(frozen=True)
class _Plan:
    """Which rows go into each batch: chunk by chunk, shortest first within one."""

    spec: StoreSpec
    pending: Sequence[int]
    inputs: Sequence[Any]
    batch_size: int
    lengths: Callable[[Sequence[Any]], list[int]]

    def __iter__(self) -> Iterator[np.ndarray]:
        for index in self.pending:
            start, stop = self.spec.rows_of(index)
            lengths = self.lengths(self.inputs[start:stop])
            order = start + np.argsort(lengths, kind="stable")
            for first in range(0, len(order), self.batch_size):
                yield order[first : first + self.batch_size]


@dataclass(frozen=True)
class _Reader(torch.utils.data.Dataset[Any]):
    """Reads and prepares one batch; an error travels as a value, so that its text stays one line.

    (A ``DataLoader`` would wrap it in the worker's traceback.)
    """

    inputs: Sequence[Any]
    prepare: Callable[[Sequence[Any]], Prepared]

    def __getitem__(self, rows: np.ndarray) -> tuple[np.ndarray, Prepared | Exception]:
        try:
            return rows, self.prepare([self.inputs[int(row)] for row in rows])
        except Exception as error:
            return rows, error


def _prepared(
    plan: _Plan, inputs: Sequence[Any], teacher: Teacher, workers: int
) -> Iterator[tuple[np.ndarray, Prepared]]:
    """Batches in the order of the plan, prepared ahead by the workers."""
    loader = DataLoader(
        _Reader(inputs, teacher.prepare),
        sampler=plan,
        batch_size=None,
        num_workers=workers,
        pin_memory=teacher.device.startswith("cuda"),
        collate_fn=_as_it_is,
        worker_init_fn=_begin_worker,
    )
    for rows, prepared in loader:
        if isinstance(prepared, Exception):
            raise prepared
        yield rows, prepared


def _as_it_is(batch: Any) -> Any:
    """A batch is made whole by the reader; the loader's own conversions are not wanted."""
    return batch


def _begin_worker(worker: int) -> None:
    """Tokenizers of transformers warn, and lock, when their threads were forked."""
    del worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
