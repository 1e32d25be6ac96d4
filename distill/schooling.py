"""One school for all students of a lesson: the same inputs, validation, record and files for each.

``train-student`` and ``compare-students`` teach here; what differs between two students is their
method and their settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import nn

from distill.config import StudentConfig, fingerprint
from distill.datasets import Dataset
from distill.desk import Desk, Method, Pupil
from distill.findings import PrefixScore, Student
from distill.identity import blueprint_of, made_by, recipe_of
from distill.lessons import Lesson, Matched, Material
from distill.matching import ALL_VIEWS, match, material
from distill.metrics import accuracy, difference, score
from distill.progress import LiveTraining, Progress
from distill.pupils import METHODS
from distill.replacing import replacing
from distill.runs import recall, remember
from distill.stored import blocks
from students import (
    Blueprint,
    Evaluation,
    Feed,
    FitResult,
    count_parameters,
    evaluate_logits,
    fit,
    fit_attenuation,
    forward_rows,
    knn_accuracy,
    make_feed,
    read_card,
    read_tensors,
    same_settings,
    save_student,
    with_targets,
    write_tensors,
)
from teachers import save_prepare

NATIVE = ("subspace", "sketch")  # ways that learn projected rows; others have no target of ours
FILE, RECORD, PREDICTIONS = "student.safetensors", "student.json", "predictions.safetensors"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Taught:
    """A pupil that has learned."""

    pupil: Pupil
    result: FitResult
    notes: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class School:
    """What all students of one lesson share. Inputs are prepared once, when first asked for."""

    dataset: Dataset
    lesson: Lesson
    workers: int
    device: str
    progress: Progress
    splits: Mapping[str, Matched]  # train, validation and test as they are
    methods: Mapping[str, Method] = field(default_factory=lambda: METHODS)
    _feeds: dict[Any, Feed] = field(default_factory=dict)
    _materials: dict[Any, Material] = field(default_factory=dict)

    @cached_property
    def teachers(self) -> Int64[np.ndarray, " rows"]:
        """What the full head says of the test rows."""
        head, test = self.lesson.full_head, self.splits["test"]
        return np.concatenate([head.predict(rows) for rows in blocks(test.features)])

    def feed(self, split: str) -> Feed:
        """The inputs of a split, without targets."""
        return self._feed(split, self.splits[split].inputs)

    def material(self, settings: StudentConfig) -> Material:
        """The rows that these settings learn from."""
        views, pool = settings.views, settings.pool
        if (views, pool) not in self._materials:
            every = self._materials.get((ALL_VIEWS, pool))
            fewer = every is not None and 0 < views <= every.views
            self._materials[views, pool] = (
                every.seeing(views)  # whose inputs need not be prepared anew
                if every is not None and fewer
                else material(self.lesson, self.dataset, views=views, pool=pool)
            )
        return self._materials[views, pool]

    def desk(self, settings: StudentConfig) -> Desk:
        """All that a method makes a pupil of."""
        return Desk(
            blueprint=self.blueprint(settings),
            lesson=self.lesson,
            train=self.material(settings),
            settings=settings,
            device=self.device,
        )

    def blueprint(self, settings: StudentConfig) -> Blueprint:
        """The network of these settings."""
        return blueprint_of(self.dataset, self.lesson, settings)

    def teach(
        self, method: str, settings: StudentConfig, folder: Path, *, overwrite: bool = False
    ) -> Student:
        """Read back or train the student of one method in ``folder``.

        Finished with the same settings, it is returned as it is; with other settings it raises
        ``CheckpointError`` that names one of them, unless ``overwrite``: the student that is there
        stays until another is finished. Killed or interrupted, the same call goes on from the last
        checkpoint. Epochs are chosen on validation; test is read once.
        """
        made_by = self.made_by(method, settings)  # refuses what does not fit, before any work
        with replacing(folder, wanted=overwrite, made_from=fingerprint(made_by)) as place:
            return self._taught(method, settings, place, made_by)

    def _taught(
        self, method: str, settings: StudentConfig, folder: Path, made_by: Mapping[str, Any]
    ) -> Student:
        if (folder / FILE).is_file():
            then = read_card(folder / FILE)["made_by"]
            same_settings(made_by, then, what=f"the student in {folder}")
            earlier = recall(folder / RECORD, Student)
            if earlier is not None:
                self.progress.say(f"{folder.name} is trained already")
                return earlier
        taught = self.learn(method, settings, folder)
        found = self._tested(method, settings, folder, taught)
        remember(folder / RECORD, found, made_from=fingerprint(made_by))
        return found

    def _feed(self, key: Any, inputs: Any) -> Feed:
        if key not in self._feeds:
            self._feeds[key] = make_feed(inputs, self.lesson.prepare, {}, workers=self.workers)
        return self._feeds[key]

    def learn(self, method: str, settings: StudentConfig, folder: Path) -> Taught:
        """Train in ``folder``, or go on there; of test nothing is read."""
        desk = self.desk(settings)
        pupil = self.methods[method].make(desk)
        train, recipe = pupil.material or desk.train, recipe_of(settings)
        rows = len(train.rows_of(1)) * recipe.epochs
        with self.progress.task(folder.name, total=rows, unit="rows") as bar:
            live = LiveTraining(self.progress, bar)
            result = fit(
                pupil.network,
                feed=with_targets(self._feed_of(train, desk.train), pupil.targets),
                loss=pupil.loss,
                evaluate=partial(self._evaluate, pupil),
                recipe=recipe,
                folder=folder,
                settings=self.made_by(method, settings),
                device=self.device,
                order=partial(train.order, batch_size=recipe.batch_size, seed=recipe.seed),
                on_rows=bar,
                on_loss=live.loss,
                on_epoch=live.epoch,
                on_note=self.progress.say,
            )
        pupil.fold()
        notes = [train.seen, *result.notes]
        if settings.calibrate and self.methods[method].in_space:
            notes.append(self._calibrate(pupil))
        return Taught(pupil=pupil, result=result, notes=tuple(notes))

    def reopen(self, method: str, settings: StudentConfig, folder: Path) -> Pupil:
        """The finished pupil of ``folder`` with the weights that were kept."""
        pupil = self.methods[method].make(self.desk(settings))
        tensors, _ = read_tensors(folder / FILE)
        pupil.student.load_state_dict({name: tensors[name] for name in pupil.student.state_dict()})
        pupil.student.eval().to(self.device)
        return pupil

    def aiming_at(self, lesson: Lesson) -> "School":
        """The same school for another target of the same features; its inputs are shared.

        Raises ``StageError`` where the target's stores are of other examples.
        """
        splits = match(lesson, self.dataset.splits)
        return replace(
            self,
            lesson=lesson,
            splits={
                name: replace(part, targets=splits[name].targets)
                for name, part in self.splits.items()
            },
            _materials={key: found.aiming_at(lesson) for key, found in self._materials.items()},
        )

    def _feed_of(self, train: Material, shared: Material) -> Feed:
        """Prepared once for all students; rows that a pupil brings itself, when they are asked."""
        if {id(part) for part in train.parts} <= {id(part) for part in shared.parts}:
            return self._feed(tuple(id(part.inputs) for part in train.parts), train.inputs)
        return make_feed(train.inputs, self.lesson.prepare, {}, workers=self.workers, memory=0)

    def _tested(
        self, method: str, settings: StudentConfig, folder: Path, taught: Taught
    ) -> Student:
        """Answer the test rows, save the student, and say how it did."""
        desk, pupil = self.desk(settings), taught.pupil
        answers = self.rows(pupil, "test")
        predicted = logits_from(pupil.student.head, answers).argmax(axis=1)
        self._save(desk, pupil, folder, self.made_by(method, settings), predicted)
        record = self._record(desk, method, folder.name, taught.result, pupil, predicted)
        return replace(record, notes=taught.notes, prefixes=self._prefixes(pupil, answers))

    def rows(self, pupil: Pupil, split: str) -> Float32[np.ndarray, "rows k"]:
        """What the student answers before its head."""
        return forward_rows(pupil.encoder, self.feed(split), device=self.device)

    def _evaluate(self, pupil: Pupil, network: nn.Module) -> Evaluation:
        del network  # the pupil's: the same weights, and the head with them
        rows, labels = self.rows(pupil, "validation"), self.splits["validation"].labels
        found = evaluate_logits(logits_from(pupil.student.head, rows), labels)
        return replace(found, measures={"knn_accuracy": knn_accuracy(rows, labels)})

    def _calibrate(self, pupil: Pupil) -> str:
        """Undo on validation rows the shrinkage of least squares, in the head."""
        validation, head = self.splits["validation"], pupil.student.head
        weight, bias = (part.detach().cpu().numpy() for part in (head.weight, head.bias))
        found = fit_attenuation(
            self.rows(pupil, "validation"),
            np.concatenate(list(blocks(validation.targets))),
            validation.labels,
            weight=weight,
            bias=bias,
        )
        with torch.no_grad():
            for part, folded in zip(
                (head.weight, head.bias), found.fold(weight, bias), strict=True
            ):
                part.copy_(torch.from_numpy(folded))
        return (
            f"its answers show {found.kept:.0%} of how far targets lie from their mean; undone in "
            f"its head on validation rows, whose cross-entropy went from {found.before:.4f} to "
            f"{found.after:.4f} (temperature {found.temperature:.2f})"
        )

    def _prefixes(
        self, pupil: Pupil, rows: Float32[np.ndarray, "rows k"]
    ) -> tuple[PrefixScore, ...]:
        """How well the student's first numbers do by themselves."""
        labels, classes = self.splits["test"].labels, self.dataset.classes
        return tuple(
            PrefixScore(dim_out=width, test=score(labels, head.predict(rows[:, :width]), classes))
            for width, head in (pupil.prefixes or {}).items()
        )

    def _save(
        self,
        desk: Desk,
        pupil: Pupil,
        folder: Path,
        made_by: Mapping[str, Any],
        predicted: Int64[np.ndarray, " rows"],
    ) -> None:
        test, student = self.splits["test"], pupil.student
        rows = {"ids": torch.from_numpy(test.ids), "predicted": torch.from_numpy(predicted)}
        write_tensors(folder / PREDICTIONS, rows, {"split": "test", "student": folder.name})
        save_prepare(folder, self.lesson.prepare)
        pairs = not isinstance(test.inputs[0], str) and self.dataset.modality == "text"
        save_student(
            folder / FILE,
            pupil.encoder,
            weight=student.head.weight,
            bias=student.head.bias,
            blueprint=pupil.encoder.blueprint
            or replace(desk.blueprint, dim_out=pupil.encoder.dim_out),
            classes=self.dataset.classes,
            preprocessing={**self.lesson.preprocessing, "pairs": pairs},
            made_by=made_by,
            prefixes=pupil.prefixes or {},
        )

    def _record(
        self,
        desk: Desk,
        method: str,
        name: str,
        result: FitResult,
        pupil: Pupil,
        predicted: Int64[np.ndarray, " rows"],
    ) -> Student:
        test, lesson = self.splits["test"], self.lesson
        return Student(
            name=name,
            network=desk.settings.name,
            method=method,
            target=lesson.target if method in NATIVE else "",
            dim_out=pupil.student.head.in_features,
            classes=len(self.dataset.classes),
            parameters=count_parameters(pupil.student),
            teacher_parameters=lesson.teacher_parameters,
            epochs=result.epochs,
            best_epoch=result.best_epoch,
            validation_accuracy=result.best.accuracy,
            test=score(test.labels, predicted, self.dataset.classes),
            difference=difference(test.labels, predicted, self.teachers, name="full"),
            agreement=accuracy(self.teachers, predicted),
            seed=desk.settings.seed,
            seconds=result.seconds,
        )

    def made_by(self, method: str, settings: StudentConfig) -> dict[str, Any]:
        """All that decides the weights: flat, so that a difference has a name."""
        return made_by(
            method,
            self.methods[method],
            settings,
            dataset=self.dataset,
            lesson=self.lesson,
            train=self.material(settings),
        )


def open_school(
    dataset: Dataset, lesson: Lesson, *, workers: int, device: str, progress: Progress
) -> School:
    """Match the stores with the data; ``StageError`` says what does not fit."""
    return School(
        dataset=dataset,
        lesson=lesson,
        workers=workers,
        device=device,
        progress=progress,
        splits=match(lesson, dataset.splits),
    )


def logits_from(
    head: nn.Linear, rows: Float32[np.ndarray, "rows k"]
) -> Float32[np.ndarray, "rows classes"]:
    """What the head says of the student's rows."""
    with torch.no_grad():
        weight, bias = (part.detach().float().cpu() for part in (head.weight, head.bias))
        found: np.ndarray = torch.nn.functional.linear(torch.from_numpy(rows), weight, bias).numpy()
    return found
