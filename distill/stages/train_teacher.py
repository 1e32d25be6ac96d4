"""``train-teacher``: fine-tune a backbone and a linear head on the task, keep the best epoch."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from torch import nn

from distill.allocator import memory_kept
from distill.config import TeachConfig
from distill.datasets import Dataset, Split
from distill.errors import StageError
from distill.findings import Taught
from distill.labelled import labels_of
from distill.metrics import score
from distill.progress import LiveTraining, Progress
from distill.training_rows import TrainingRows, fresh_note, fresh_rows, plain_rows
from students import (
    Classifier,
    Evaluation,
    Feed,
    LabelLoss,
    Recipe,
    count_parameters,
    evaluate_logits,
    fit,
    forward_rows,
    fresh_head,
    in_memory,
    make_feed,
)
from teachers import Teacher, save_teacher


@memory_kept()
def train_teacher(
    dataset: Dataset,
    teacher: Teacher,
    *,
    folder: Path,
    settings: TeachConfig,
    workers: int,
    progress: Progress,
) -> Taught:
    """Teach ``teacher`` the classes of ``dataset``; ``folder`` is then weights for its loader.

    The backbone and a linear head on its features learn by cross-entropy from the training rows
    as they are, or with ``settings.augment`` from a view of each that no other epoch shows. The
    best epoch is chosen on validation; test is read once.
    The head starts from the teacher's own where that tells the same classes apart. Killed or
    interrupted, the same call goes on from the last checkpoint in ``folder``. Raises
    ``StageError`` for data that cannot teach a classifier.
    """
    splits = _labelled_splits(dataset)
    recipe = Recipe(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        optimizer=settings.optimizer,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        precision=settings.precision,
        seed=settings.seed,
    )
    train = _rows(dataset, teacher, settings.augment, recipe, workers)
    device = str(next(teacher.module.parameters()).device)
    network = Classifier(teacher.module, _head(teacher, dataset, settings.seed))
    network.requires_grad_(True)  # a frozen teacher may say otherwise
    validation = splits["validation"]
    held_out = make_feed(validation.inputs, teacher.prepare, {}, workers=workers)
    begun = time.perf_counter()
    rows = train.examples * settings.epochs
    with progress.task("train teacher", total=rows, unit="rows") as bar:
        live = LiveTraining(progress, bar)
        result = fit(
            network,
            feed=train.feed,
            loss=LabelLoss(),
            evaluate=partial(_evaluate, held_out, labels_of(validation), device),
            recipe=recipe,
            folder=folder,
            settings=_made_by(dataset, teacher, settings.augment),
            device=device,
            order=train.order,
            on_rows=bar,
            on_loss=live.loss,
            on_epoch=live.epoch,
            on_note=progress.say,
        )
    save_teacher(folder, teacher, dataset.classes, network.head)
    test = splits["test"]
    feed = make_feed(test.inputs, teacher.prepare, {}, workers=workers)
    predicted = forward_rows(network, feed, device=device).argmax(axis=1)
    return Taught(
        teacher=teacher.card.name,
        classes=len(dataset.classes),
        dim=teacher.card.dim,
        parameters=count_parameters(network),
        epochs=settings.epochs,
        best_epoch=result.best_epoch,
        validation_accuracy=result.best.accuracy,
        test=score(labels_of(test), predicted, dataset.classes),
        seconds=max(result.seconds, time.perf_counter() - begun),
        notes=(*_notes(settings), *result.notes),
    )


def _rows(
    dataset: Dataset, teacher: Teacher, augment: str, recipe: Recipe, workers: int
) -> TrainingRows:
    """The training rows as they are, or a view of each for every epoch."""
    split, prepare = dataset.splits["train"], teacher.prepare
    labels = {"labels": in_memory(labels_of(split))}
    if not augment:
        return plain_rows(make_feed(split.inputs, prepare, {}, workers=workers), labels, recipe)
    return fresh_rows(
        split,
        labels,
        recipe,
        augment=augment,
        modality=dataset.modality,
        prepare=prepare,
        workers=workers,
    )


def _notes(settings: TeachConfig) -> tuple[str, ...]:
    return (fresh_note(settings.augment),) if settings.augment else ()


def _labelled_splits(dataset: Dataset) -> dict[str, Split]:
    """Train, validation and test, each with rows and labels of at least two classes."""
    if len(dataset.classes) < 2:
        raise StageError(
            f"{dataset.name} has {len(dataset.classes)} classes; teaching needs at least two "
            f"(name the column of labels with --label-column)"
        )
    for name in ("train", "validation", "test"):
        split = dataset.splits.get(name)
        if split is None or len(split.ids) == 0:
            raise StageError(f"{dataset.name} has no examples in its {name} split")
        if split.labels is None:
            raise StageError(f"the {name} split of {dataset.name} has no labels to learn from")
    labels = labels_of(dataset.splits["train"])
    if len(np.unique(labels)) < 2:
        raise StageError(f"every training example of {dataset.name} is of one class")
    return {name: dataset.splits[name] for name in ("train", "validation", "test")}


def _head(teacher: Teacher, dataset: Dataset, seed: int) -> nn.Linear:
    own = teacher.head
    if own is not None and teacher.card.classes == dataset.classes:
        return own
    device = next(teacher.module.parameters()).device
    return fresh_head(teacher.card.dim, len(dataset.classes), seed=seed).to(device)


def _made_by(dataset: Dataset, teacher: Teacher, augment: str) -> Mapping[str, Any]:
    card = teacher.card
    return {
        **({"augment": augment} if augment else {}),  # absent in what was begun without a word
        "teacher": card.name,
        "teacher_weights": card.weights,
        "preprocessing": dict(card.preprocessing),
        "pooling": card.pooling,
        "layer": card.layer,
        "dataset": dataset.fingerprint,
        "classes": list(dataset.classes),
    }


def _evaluate(
    feed: Feed, labels: Int64[np.ndarray, " rows"], device: str, network: nn.Module
) -> Evaluation:
    return evaluate_logits(forward_rows(network, feed, device=device), labels)
