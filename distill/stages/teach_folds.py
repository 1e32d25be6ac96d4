"""``train-teacher --folds``: teachers that each learned all training examples but one fold."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Int64

from distill.alignment import Alignment, align
from distill.config import TeachConfig
from distill.datasets import Dataset, Inputs, Split
from distill.errors import StageError
from distill.findings import FoldsTaught, FoldTaught, Taught
from distill.held_out import Folds, folder_of
from distill.labelled import labels_of
from distill.progress import Progress
from distill.sweeping.folds import places
from teachers import Teacher

MOST_ROWS = 4096  # that the map between two teachers is computed from, and judged on


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """How each of the teachers is taught: as the whole teacher was, from the same weights."""

    folder: Path  # of the whole teacher
    settings: TeachConfig
    workers: int
    batch_size: int
    teach: Callable[..., Taught]  # the stage ``train_teacher``: no stage runs another
    fresh: Callable[[], Teacher]  # still to be taught
    load: Callable[[Path], Teacher]  # from a folder where one was taught


def teach_folds(dataset: Dataset, course: Course, *, progress: Progress) -> FoldsTaught:
    """Teach ``settings.folds`` teachers and align their features with the whole teacher's.

    The folds are stratified, drawn from ``settings.seed``. Each teacher lies in ``fold-<j>`` of the
    whole teacher's folder, resumable as that is; ``folds.safetensors`` is written when all are
    done. ``StageError`` where a class would be missing from what a teacher learns.
    """
    begun = time.perf_counter()
    train, count = dataset.splits["train"], course.settings.folds
    labels = labels_of(train)
    fold = places(labels, course.settings.seed) % count
    for number in range(count):
        lost = np.setdiff1d(labels, labels[fold != number])
        if len(lost):
            raise StageError(
                f"class {dataset.classes[lost[0]]!r} has its only training examples in fold "
                f"{number}: its teacher would not learn it; ask for no --folds, or merge classes"
            )
    whole, alignments, found = course.load(course.folder), [], []
    for number in range(count):
        one, alignment = _fold(dataset, course, whole, fold, number, progress)
        alignments.append(alignment)
        found.append(one)
        progress.say(
            f"fold {number + 1} of {count}: {100 * one.accuracy:.1f} % right on its "
            f"{one.rows} rows, which it never learned; aligned, its features explain "
            f"{100 * one.explained:.1f} % of the whole teacher's variance on validation"
        )
    order = np.argsort(train.ids, kind="stable")
    Folds(train.ids[order], fold[order], tuple(alignments)).save(course.folder)
    own = _right(whole, train, spread_over(len(train)), course.batch_size)
    return FoldsTaught(
        fingerprint=dataset.fingerprint,
        weights=whole.card.weights,
        layer=whole.card.layer,
        pooling=whole.card.pooling,
        folds=tuple(found),
        own_accuracy=own,
        seconds=time.perf_counter() - begun,
    )


def _fold(
    dataset: Dataset,
    course: Course,
    whole: Teacher,
    fold: Int64[np.ndarray, " rows"],
    number: int,
    progress: Progress,
) -> tuple[FoldTaught, Alignment]:
    folder, train = folder_of(course.folder, number), dataset.splits["train"]
    kept, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
    _taught(dataset, course, kept, folder, number, progress)
    teacher = course.load(folder)
    see = partial(features_of, batch_size=course.batch_size)
    known = kept[spread_over(len(kept))]
    validation = dataset.splits["validation"]
    unseen = spread_over(len(validation))
    alignment, explained = align(
        see(teacher, train, known),
        see(whole, train, known),
        unseen=(see(teacher, validation, unseen), see(whole, validation, unseen)),
    )
    accuracy = _right(teacher, train, held[spread_over(len(held))], course.batch_size)
    return FoldTaught(rows=len(held), accuracy=accuracy, explained=explained), alignment


def _taught(
    dataset: Dataset,
    course: Course,
    kept: Int64[np.ndarray, " kept"],
    folder: Path,
    number: int,
    progress: Progress,
) -> Taught:
    train = dataset.splits["train"]
    part = replace(
        train,
        ids=train.ids[kept],
        labels=labels_of(train)[kept],
        inputs=Inputs(train.inputs.reader, train.inputs.rows[kept]),
    )
    settings = course.settings
    without = replace(
        dataset,
        splits={**dataset.splits, "train": part},
        # another training set: what was begun on one fold never goes on with another
        fingerprint=f"{dataset.fingerprint} without {number} of {settings.folds}, {settings.seed}",
    )
    return course.teach(
        without,
        course.fresh(),
        folder=folder,
        settings=settings,
        workers=course.workers,
        progress=progress,
    )


def spread_over(rows: int) -> Int64[np.ndarray, " some"]:
    """At most ``MOST_ROWS`` row numbers, evenly over all."""
    return np.unique(np.linspace(0, rows - 1, num=min(MOST_ROWS, rows)).astype(np.int64))


def features_of(
    teacher: Teacher, split: Split, rows: Int64[np.ndarray, " some"], *, batch_size: int
) -> Float32[np.ndarray, "some dim"]:
    """Features of some rows of a split, in their order."""
    return np.concatenate(
        [out.features for out in _outputs(teacher, split.inputs, rows, batch_size)]
    )


def _right(
    teacher: Teacher, split: Split, rows: Int64[np.ndarray, " some"], batch_size: int
) -> float:
    """Share of some rows that the teacher's own head gets right."""
    logits = [out.logits for out in _outputs(teacher, split.inputs, rows, batch_size)]
    found = np.concatenate([one for one in logits if one is not None]).argmax(axis=1)
    return float(np.mean(found == labels_of(split)[rows]))


def _outputs(
    teacher: Teacher, inputs: Sequence[Any], rows: Int64[np.ndarray, " some"], batch_size: int
) -> list[Any]:
    return [
        teacher.embed(teacher.prepare([inputs[int(row)] for row in rows[at : at + batch_size]]))
        for at in range(0, len(rows), batch_size)
    ]
