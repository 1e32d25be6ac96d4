"""``train-head``: a linear classifier on the full features and one on every projected store.

Validation chooses the l2; test is read once a head, for the final number. ``<folder>/<name>/``
holds ``head.safetensors``, ``predictions.safetensors`` (ids and predicted classes of validation and
test) and, written last, ``head.json``: a head without it is not finished. A finished head is kept
while its stores and settings are the same, and trained again, which is said, when they are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, final

import numpy as np
from jaxtyping import Int64
from safetensors import SafetensorError
from safetensors.numpy import load, save

from distill.config import HeadConfig
from distill.errors import StageError
from distill.findings import FindingError, Head, Heads, Projected
from distill.labelled import SPLITS, class_names
from distill.metrics import difference, score
from distill.progress import Progress
from distill.whole import whole
from stores import FeatureStore
from students import FittedHead, HeadError, fit_head, load_head, save_head

FULL = "full"
WEIGHTS, PREDICTIONS, RECORD = "head.safetensors", "predictions.safetensors", "head.json"

Splits = Mapping[str, FeatureStore]
Predicted = Int64[np.ndarray, " rows"]


@final
@dataclass(frozen=True)
class _Task:
    """One head to train: on which stores, and what will be said of it."""

    name: str
    kind: str
    seed: int
    dim_in: int
    splits: Splits
    classes: tuple[str, ...]
    made_from: dict[str, Any]


def train_heads(
    full: Splits,
    projected: Sequence[tuple[Projected, Splits]],
    *,
    folder: Path,
    settings: HeadConfig,
    progress: Progress,
    device: str = "cpu",
) -> Heads:
    """Train the full head first, then one on each projected store, and compare it with the full.

    ``device`` is where they are fitted; which one is no part of what a head was made from.
    The training rows of a store are held in memory, twice while a head is fitted. Missing or
    unlabelled splits, a single class and rows that are not the full store's raise ``StageError``.
    """
    classes = class_names(full)
    tasks = [_task(FULL, None, full, full, classes, settings)]
    for found, splits in projected:
        _same_rows(full, splits, found.name)
        tasks.append(_task(found.name, found, splits, full, classes, settings))
    heads: list[Head] = []
    baseline: Predicted | None = None
    with progress.task("train heads", total=len(tasks), unit="heads") as advance:
        for task in tasks:
            kept = _finished(task, folder / task.name, progress)
            head, tested = kept or _train(task, baseline, folder / task.name, settings, device)
            baseline = tested if baseline is None else baseline
            heads.append(head)
            advance(1)
    notes = tuple(
        f"the head {head.name} had not converged after {settings.max_iterations} iterations; "
        "raise head.max_iterations"
        for head in heads
        if not head.converged
    )
    for note in notes:
        progress.say(note)
    return Heads(heads=tuple(heads), notes=notes)


def _same_rows(full: Splits, splits: Splits, name: str) -> None:
    for split in SPLITS:
        if split not in splits:
            raise StageError(f"{name} has no {split} split; project the features again")
        ours, theirs = splits[split], full[split]
        if not (
            np.array_equal(ours.ids(), theirs.ids())
            and ours.spec.labelled
            and np.array_equal(ours.labels(), theirs.labels())
        ):
            raise StageError(
                f"{name} does not hold the {split} rows of the full features; "
                "project the features again"
            )


def _task(
    name: str,
    found: Projected | None,
    splits: Splits,
    full: Splits,
    classes: tuple[str, ...],
    settings: HeadConfig,
) -> _Task:
    return _Task(
        name=name,
        kind=found.kind if found else "",
        seed=found.seed if found else 0,
        dim_in=full["train"].spec.dim,
        splits=splits,
        classes=classes,
        made_from={
            "stores": {split: splits[split].digest for split in SPLITS},
            "full": {split: full[split].digest for split in SPLITS},
            "l2": sorted(settings.l2),
            "max_iterations": settings.max_iterations,
        },
    )


def _finished(task: _Task, folder: Path, progress: Progress) -> tuple[Head, Predicted] | None:
    """Read the head in ``folder`` and its test predictions, if it is what ``task`` would make."""
    if not (folder / RECORD).is_file():
        return None
    why = "was trained on other stores or settings"
    try:
        _, meta = load_head(folder / WEIGHTS)
        if meta.get("made_from") == task.made_from and tuple(meta["classes"]) == task.classes:
            tested = load((folder / PREDICTIONS).read_bytes())["test_predicted"]
            return Head.load(folder / RECORD), tested
    except (HeadError, FindingError, SafetensorError, KeyError, FileNotFoundError) as error:
        why = f"cannot be read ({error})"
    progress.say(f"the head {task.name} {why} and is trained again")
    return None


def _train(
    task: _Task, baseline: Predicted | None, folder: Path, settings: HeadConfig, device: str
) -> tuple[Head, Predicted]:
    """Fit, choose, test once, and write; the record last."""
    start = perf_counter()
    (folder / RECORD).unlink(missing_ok=True)
    fitted = _fit(task, settings, device)
    validated, tested = (
        fitted.predict(task.splits[split].features()) for split in ("validation", "test")
    )
    labels = task.splits["test"].labels()
    rows = task.splits["train"].spec.rows
    save_head(
        folder / WEIGHTS,
        fitted,
        {
            "classes": list(task.classes),
            "made_from": task.made_from,
            "name": task.name,
            "train_rows": rows,
        },
    )
    _write_predictions(task, folder, {"validation": validated, "test": tested})
    head = Head(
        name=task.name,
        kind=task.kind,
        dim_in=task.dim_in,
        dim_out=task.splits["train"].spec.dim,
        classes=len(task.classes),
        seed=task.seed,
        l2=fitted.l2,
        validation_accuracy=fitted.validation_accuracy,
        test=score(labels, tested, task.classes),
        difference=None if baseline is None else difference(labels, tested, baseline, name=FULL),
        train_rows=rows,
        converged=fitted.converged,
        seconds=perf_counter() - start,
        dtype=task.splits["train"].spec.dtype,
    )
    head.save(folder / RECORD)
    return head, tested


def _fit(task: _Task, settings: HeadConfig, device: str) -> FittedHead:
    train, validation = task.splits["train"], task.splits["validation"]
    try:
        return fit_head(
            train.features(),
            train.labels(),
            validation.features(),
            validation.labels(),
            classes=len(task.classes),
            l2=settings.l2,
            max_iterations=settings.max_iterations,
            device=device,
        )
    except HeadError as error:
        raise StageError(f"{train.path.parent}: {error}") from error


def _write_predictions(task: _Task, folder: Path, predicted: Mapping[str, Predicted]) -> None:
    tensors = {}
    for split, classes in predicted.items():
        tensors[f"{split}_ids"] = np.ascontiguousarray(task.splits[split].ids())
        tensors[f"{split}_predicted"] = np.ascontiguousarray(classes)
    with whole(folder / PREDICTIONS) as scratch:
        scratch.write_bytes(save(tensors))
