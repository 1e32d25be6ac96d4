"""``train-student``: a compact network learns the projected rows; the teacher's head goes with it.

The student g minimises ||g(x) - z||² (arXiv 2512.23410, equation 4) against the stored z = R h(x);
its logits are W g(x) + b with the head that was trained on z. Teacher's rows are of clean inputs
and the student sees the same clean inputs, without augmentation. The baselines are the same
network with the same initial weights, recipe and order of rows: learning from labels only, and
from the full head's logits.
"""

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from distill.allocator import memory_kept
from distill.config import StudentConfig, fingerprint
from distill.datasets import Dataset
from distill.findings import Student, Students
from distill.lessons import WINDOW, Lesson, Matched, blocks, fits_in_memory, match
from distill.metrics import accuracy, difference, score
from distill.progress import Progress
from distill.pupils import Pupil, make_pupil
from distill.runs import recall, remember
from students import (
    Blueprint,
    Evaluation,
    Feed,
    FitResult,
    FittedHead,
    Recipe,
    count_parameters,
    evaluate_logits,
    fit,
    forward_rows,
    make_feed,
    plain_settings,
    read_card,
    same_settings,
    save_student,
    shuffled_order,
    windowed_order,
    with_targets,
    write_tensors,
)
from teachers import save_prepare

BASELINES = ("labels", "logits")
SEES = "learned the rows of clean inputs and saw clean inputs: no augmentation"
FILE, RECORD, PREDICTIONS = "student.safetensors", "student.json", "predictions.safetensors"


@memory_kept()
def train_student(
    dataset: Dataset,
    lesson: Lesson,
    *,
    settings: StudentConfig,
    root: Path,
    workers: int,
    device: str,
    progress: Progress,
    overwrite: bool = False,
) -> Students:
    """Train the subspace-native student, and with ``settings.baselines`` the two baselines.

    Each gets a folder of its name in ``root``: ``student.safetensors`` (network, head and card),
    ``predictions.safetensors`` (of test), checkpoints, metrics, and ``student.json`` (its record,
    written last). One that is finished with the same settings is returned as it is; with other
    settings it raises ``CheckpointError`` that names one of them, unless ``overwrite``. Killed
    or interrupted, the same call goes on from the last checkpoint. Epochs are chosen on
    validation; test is read once for each student.
    """
    room = _Room(
        dataset=dataset,
        lesson=lesson,
        settings=settings,
        root=root,
        workers=workers,
        device=device,
        progress=progress,
        splits=match(lesson, dataset.splits),
        blueprint=_blueprint(dataset, lesson, settings),
        feeds={},
    )
    methods = ("subspace", *(BASELINES if settings.baselines else ()))
    return Students(students=tuple(_student(room, method, overwrite) for method in methods))


def student_name(network: str, target: str, dim_out: int, method: str) -> str:
    """``resnet10t-gaussian-k128-s0``, or ``resnet10t-k128-labels`` for a baseline."""
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", network.rpartition("/")[2]).strip("-.")
    return f"{short}-{target}" if method == "subspace" else f"{short}-k{dim_out}-{method}"


@dataclass(frozen=True, kw_only=True)
class _Room:
    """What all students of one call share."""

    dataset: Dataset
    lesson: Lesson
    settings: StudentConfig
    root: Path
    workers: int
    device: str
    progress: Progress
    splits: Mapping[str, Matched]
    blueprint: Blueprint
    feeds: dict[str, Feed]  # prepared once, when first asked for

    def feed(self, split: str) -> Feed:
        """Prepare the inputs of a split, without targets."""
        if split not in self.feeds:
            inputs, prepare = self.splits[split].inputs, self.lesson.prepare
            self.feeds[split] = make_feed(inputs, prepare, {}, workers=self.workers)
        return self.feeds[split]

    @property
    def recipe(self) -> Recipe:
        """The same for every student."""
        settings = self.settings
        return Recipe(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup=settings.warmup,
            seed=settings.seed,
        )


def _student(room: _Room, method: str, overwrite: bool) -> Student:
    """Read back or train the student of one method."""
    name = student_name(room.settings.name, room.lesson.target, room.blueprint.dim_out, method)
    folder = room.root / name
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    made_by = _made_by(room, method)
    if (folder / FILE).is_file():
        then = read_card(folder / FILE)["made_by"]
        same_settings(made_by, then, what=f"the student in {folder}")
        earlier = recall(folder / RECORD, Student)
        if earlier is not None:
            room.progress.say(f"{name} is trained already")
            return earlier
    found = _train(room, method, folder, made_by)
    remember(folder / RECORD, found, made_from=fingerprint(made_by))
    return found


def _train(room: _Room, method: str, folder: Path, made_by: Mapping[str, Any]) -> Student:
    train, recipe = room.splits["train"], room.recipe
    pupil = make_pupil(method, room.blueprint, room.lesson, train, room.settings, room.device)
    rows = len(train.ids) * recipe.epochs
    with room.progress.task(folder.name, total=rows, unit="rows") as advance:
        result = fit(
            pupil.network,
            feed=with_targets(room.feed("train"), pupil.targets),
            loss=pupil.loss,
            evaluate=partial(_evaluate, room, pupil),
            recipe=recipe,
            folder=folder,
            settings=made_by,
            device=room.device,
            order=partial(_order, train, recipe),
            on_rows=advance,
            on_epoch=partial(_tell, room.progress),
        )
    pupil.encoder.fold_scale()
    predicted = pupil.logits(
        forward_rows(pupil.network, room.feed("test"), device=room.device)
    ).argmax(axis=1)
    _save(room, pupil, folder, made_by, predicted)
    return _record(room, method, folder.name, result, pupil, predicted)


def _evaluate(room: _Room, pupil: Pupil, network: nn.Module) -> Evaluation:
    outputs = forward_rows(network, room.feed("validation"), device=room.device)
    return evaluate_logits(pupil.logits(outputs), room.splits["validation"].labels)


def _save(
    room: _Room,
    pupil: Pupil,
    folder: Path,
    made_by: Mapping[str, Any],
    predicted: Int64[np.ndarray, " rows"],
) -> None:
    test = room.splits["test"]
    rows = {"ids": torch.from_numpy(test.ids), "predicted": torch.from_numpy(predicted)}
    write_tensors(folder / PREDICTIONS, rows, {"split": "test", "student": folder.name})
    save_prepare(folder, room.lesson.prepare)
    pairs = not isinstance(test.inputs[0], str) and room.dataset.modality == "text"
    save_student(
        folder / FILE,
        pupil.encoder,
        weight=pupil.head.weight,
        bias=pupil.head.bias,
        blueprint=room.blueprint,
        classes=room.dataset.classes,
        preprocessing={**room.lesson.preprocessing, "pairs": pairs},
        made_by=made_by,
    )


def _record(
    room: _Room,
    method: str,
    name: str,
    result: FitResult,
    pupil: Pupil,
    predicted: Int64[np.ndarray, " rows"],
) -> Student:
    test, lesson = room.splits["test"], room.lesson
    teachers = np.concatenate([lesson.full_head.predict(rows) for rows in blocks(test.features)])
    return Student(
        name=name,
        network=room.settings.name,
        method=method,
        target=lesson.target if method == "subspace" else "",
        dim_out=room.blueprint.dim_out,
        classes=len(room.dataset.classes),
        parameters=count_parameters(pupil.encoder) + count_parameters(pupil.head),
        teacher_parameters=lesson.teacher_parameters,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        validation_accuracy=result.best.accuracy,
        test=score(test.labels, predicted, room.dataset.classes),
        difference=difference(test.labels, predicted, teachers, name="full"),
        agreement=accuracy(teachers, predicted),
        seed=room.settings.seed,
        seconds=result.seconds,
        notes=(SEES, *result.notes),
    )


def _order(train: Matched, recipe: Recipe, epoch: int) -> list[np.ndarray]:
    """Deal the rows of each batch, alike for all students; in windows where they stay on disk."""
    spec, size, seed = train.targets.spec, recipe.batch_size, recipe.seed
    if fits_in_memory(train.targets):
        return shuffled_order(spec.rows, size, seed=seed, epoch=epoch)
    return windowed_order(
        spec.rows, size, seed=seed, epoch=epoch, chunk=spec.chunk_rows, window=WINDOW
    )


def _blueprint(dataset: Dataset, lesson: Lesson, settings: StudentConfig) -> Blueprint:
    tokenizer = getattr(lesson.prepare, "tokenizer", None)
    size = settings.image_size or lesson.preprocessing.get("image_size", 0)
    return Blueprint(
        name=settings.name,
        dim_out=lesson.targets["train"].spec.dim,
        modality=dataset.modality,
        options=plain_settings(settings.options),
        image_size=int(size),
        vocabulary=0 if tokenizer is None else len(tokenizer),
        padding_id=0 if tokenizer is None else int(tokenizer.pad_token_id or 0),
    )


def _made_by(room: _Room, method: str) -> dict[str, Any]:
    """All that decides the weights beside the recipe; flat, so that a difference has a name."""
    settings, lesson = room.settings, room.lesson
    made = {
        "method": method,
        "network": settings.name,
        "options": settings.options,
        "weights": _weights(settings.weights),
        "dim_out": room.blueprint.dim_out,
        "image_size": room.blueprint.image_size,
        "dataset": room.dataset.fingerprint,
        "classes": list(room.dataset.classes),
        "teacher": lesson.teacher,
        "preprocessing": dict(lesson.preprocessing),
    }
    if method == "subspace":
        made |= {
            "target": [lesson.targets[name].digest for name in ("train", "validation")],
            "head": _digest(lesson.head),
            "loss": settings.loss,
            "target_weight": settings.target_weight,
            "kl_weight": settings.kl_weight,
            "ce_weight": settings.ce_weight,
        }
    if method == "logits" or (method == "subspace" and settings.kl_weight):
        features = lesson.features["train"].digest
        made |= {
            "features": features,
            "full_head": _digest(lesson.full_head),
            "temperature": settings.temperature,
        }
    return plain_settings({**asdict(room.recipe), **made})


def _weights(name: str) -> str:
    """Name a file by its content: where it lies changes nothing."""
    path = Path(name)
    return f"sha256:{_sha256(path.read_bytes())}" if path.is_file() else name


def _digest(head: FittedHead) -> str:
    return f"sha256:{_sha256(head.weight.tobytes() + head.bias.tobytes())}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tell(progress: Progress, entry: Mapping[str, Any]) -> None:
    progress.detail(
        f"epoch {entry['epoch']}: loss {entry['loss']:.4f}, validation accuracy "
        f"{entry['validation_accuracy']:.1%}, {entry['rows_per_second']:.0f} rows/s"
    )
