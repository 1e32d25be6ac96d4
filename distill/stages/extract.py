"""The extract stage: a frozen teacher over every split, chunk by chunk, into feature stores.

A batch never spans two chunks and is a function of its chunk alone (texts are sorted by length
*within* the chunk), so that a run that was killed and begun again writes the same bytes.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from distill.allocator import memory_kept
from distill.config import ExtractConfig
from distill.datasets import Dataset, Split
from distill.findings import Extracted, ExtractedSplit
from distill.progress import Progress
from stores import (
    IncompleteStoreError,
    MissingStoreError,
    StoreSpec,
    StoreWriter,
    create_store,
    default_chunk_rows,
    even_chunk_rows,
    repair_store,
    verify_store,
)
from teachers import Outputs, Prepared, Teacher

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
) -> Extracted:
    """Fill ``root``/<split> for every split; what is there already is not made again.

    ``workers`` processes read and prepare inputs (0: this one does). ``made_by`` is recorded
    over what the stage records itself. ``repair`` first takes away what is damaged. Raises what
    stores raise, and whatever an unreadable input raises, naming it.
    """
    started = time.perf_counter()
    written = 0
    specs = {
        name: _spec(dataset, split, teacher, settings, made_by)
        for name, split in dataset.splits.items()
    }
    for name, split in dataset.splits.items():
        if repair:
            _take_damage_away(root / name, progress)
        with create_store(root / name, specs[name]) as writer:
            written += _fill(writer, split, teacher, settings.batch_size, workers, progress)
    seconds = time.perf_counter() - started
    return Extracted(
        teacher=teacher.card.name,
        dataset=dataset.name,
        dim=teacher.card.dim,
        logits=len(teacher.card.classes),
        dtype=settings.dtype,
        splits=tuple(
            ExtractedSplit(split=name, rows=len(split.ids), skipped=tuple(split.skipped))
            for name, split in dataset.splits.items()
        ),
        bytes=sum(_bytes(root / name) for name in dataset.splits),
        seconds=seconds,
        rows_written=written,
        rows_per_second=written / seconds,
        notes=teacher.card.notes,
    )


def _spec(
    dataset: Dataset,
    split: Split,
    teacher: Teacher,
    settings: ExtractConfig,
    made_by: Mapping[str, Any],
) -> StoreSpec:
    """What the store of one split promises, and who makes it."""
    card = teacher.card
    most = default_chunk_rows(card.dim, settings.dtype, most=MOST_CHUNK_ROWS)
    return StoreSpec(
        rows=len(split.ids),
        dim=card.dim,
        dtype=settings.dtype,
        logits=len(card.classes),
        labelled=split.labels is not None,
        classes=tuple(dataset.classes),
        chunk_rows=even_chunk_rows(len(split.ids), most, multiple=settings.batch_size),
        made_by={**_origin(dataset, teacher), "split": split.name, **made_by},
    )


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


def _fill(
    writer: StoreWriter,
    split: Split,
    teacher: Teacher,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> int:
    """Write the chunks still pending; returns how many rows that was."""
    pending = writer.pending()
    rows = sum(stop - start for start, stop in map(writer.spec.rows_of, pending))
    if not pending:
        progress.detail(f"{split.name}: all {writer.spec.rows} rows are there already")
        return 0
    if rows < writer.spec.rows:
        progress.say(f"{split.name}: going on, {rows} of {writer.spec.rows} rows to do")
    plan = _Plan(writer.spec, pending, split.inputs, batch_size, teacher.lengths)
    batches = _prepared(plan, split.inputs, teacher, workers)
    with progress.task(f"extract {split.name}", total=rows, unit="rows") as advance:
        for index in pending:
            start, stop = writer.spec.rows_of(index)
            features, logits = _chunk(batches, teacher, start, stop, advance)
            writer.write(
                index,
                ids=split.ids[start:stop],
                labels=None if split.labels is None else split.labels[start:stop],
                features=features,
                logits=logits,
            )
    return rows


def _chunk(
    batches: Iterator[tuple[np.ndarray, Prepared]],
    teacher: Teacher,
    start: int,
    stop: int,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Features and logits of rows start to stop, in the order of the rows."""
    card = teacher.card
    features = np.empty((stop - start, card.dim), dtype=np.float32)
    logits = np.empty((stop - start, len(card.classes)), dtype=np.float32)
    done = 0
    while done < stop - start:
        rows, prepared = next(batches)
        found: Outputs = teacher.embed(prepared)
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
