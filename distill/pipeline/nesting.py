"""``nest``: from a trained network of a run to one of any budget."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from distill.config import NestConfig
from distill.findings import Nested
from distill.options import NEST, NestOptions, overrides
from distill.pipeline.building import command, feature_stores, projected_stores, the_device
from distill.pipeline.building import the_teacher as teacher_of
from distill.pipeline.opening import Opened, UserError, opened_for_writing
from distill.pipeline.pointing import EXPORTED, nested_path, student_path
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN

if TYPE_CHECKING:  # quoted below, so that naming the parts does not load torch
    from distill.nesting import Stored, Subject
    from students import Classifier
    from teachers import Teacher

TEACHER = "teacher"


def nest(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Unpack[NestOptions],
) -> Nested:
    """Turn the run's teacher, or a student of it, into one network of any budget.

    Layers become products whose rank is chosen at run time, and learn several ranks at once.
    Killed or interrupted, the same call goes on from the last checkpoint.
    """
    with opened_for_writing(run, config, overrides(options, NEST)) as opened:
        return nest_network(opened, progress=progress, overwrite=overwrite)


def nest_network(
    opened: Opened,
    *,
    progress: Progress,
    settings: NestConfig | None = None,
    overwrite: bool = False,
) -> Nested:
    """The nesting stage on an opened run; a finished network is left as it is.

    ``settings`` other than the config's do not become the run's.
    """
    from distill.stages.nest import nest as stage
    from distill.views import Views

    settings = settings or opened.config.nest
    if settings.augment:
        views = Views(count=1, augment=settings.augment, mix=settings.mix)
        views.check(opened.dataset.modality)
    subject = subject_of(opened, settings)
    stored = _stored(opened, subject, progress) if settings.targets == "projected" else None
    folder = opened.run.nested / nested_name(settings, subject.name)
    opened.keep_config()
    return stage(
        subject,
        opened.dataset,
        folder=folder,
        settings=settings,
        workers=opened.config.compute.workers,
        device=the_device(opened.config),
        progress=progress,
        stored=stored,
        overwrite=overwrite,
    )


def nested_name(settings: NestConfig, of: str) -> str:
    """``teacher-mlp-attention``: what was nested, and which layers, unless it is given a name."""
    said = settings.name or "-".join((of, *settings.include))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", said).strip("-.") or of


def subject_of(opened: Opened, settings: NestConfig) -> "Subject":
    """The network that is to be nested, dense: the run's teacher, or the student it names."""
    return _student(opened, settings.student) if settings.student else _teacher(opened)


def _student(opened: Opened, name: str) -> "Subject":
    from distill.nesting import Subject, digest_of
    from students import load
    from teachers import rebuild_prepare

    if (again := nested_path(opened.run, name)) is not None:
        raise UserError(
            f"{again.name} is nested already; name the teacher or the student that it was made "
            "of, and with --name what it shall be called"
        )
    path = student_path(opened.run, name)
    if path.suffix == EXPORTED:
        raise UserError(f"{path} is exported, and only a network of torch can be nested")
    student = load(path)
    if student.classes != tuple(opened.dataset.classes):
        raise UserError(
            f"the student {path.name} tells other classes apart than {opened.dataset.name} has; "
            "name a student of this run with --student"
        )
    return Subject(
        name=path.name,
        network=student.network,
        prepare=rebuild_prepare(path, student.modality, student.preprocessing),
        card={
            "blueprint": asdict(student.blueprint),
            "teacher": None,
            "modality": student.modality,
            "classes": list(student.classes),
            "preprocessing": dict(student.preprocessing),
        },
        made_by={"network": digest_of(student.network)},
    )


def _teacher(opened: Opened) -> "Subject":
    from distill.nesting import Subject, digest_of

    teacher = teacher_of(opened.run, opened.config, opened.dataset)
    network = _with_head(opened, teacher)
    return Subject(
        name=TEACHER,
        network=network,
        prepare=teacher.prepare,
        card={
            "blueprint": None,
            "teacher": _built_of(opened, teacher),
            "modality": teacher.card.modality,
            "classes": list(opened.dataset.classes),
            "preprocessing": {**teacher.card.preprocessing, "pairs": _pairs(opened)},
        },
        made_by={"network": digest_of(network)},
    )


def _with_head(opened: Opened, teacher: "Teacher") -> "Classifier":
    """The teacher's network with its own head, or else the one trained on its features."""
    from students import Classifier, carried_head, load_head

    if teacher.head is not None and tuple(teacher.card.classes) == tuple(opened.dataset.classes):
        return Classifier(teacher.module, teacher.head)
    file = opened.run.heads / "full" / "head.safetensors"
    if not file.is_file():
        raise UserError(
            f"the teacher of {opened.run.folder} has no head for {opened.dataset.name}: run "
            f"{command(opened.run, 'train-head')} first, or train-teacher"
        )
    import torch

    head, _ = load_head(file, dim=teacher.card.dim, classes=opened.dataset.classes)
    parts = (torch.from_numpy(part).float() for part in (head.weight, head.bias))
    return Classifier(teacher.module, carried_head(*parts))


def _pairs(opened: Opened) -> bool:
    """Whether an input is two texts."""
    inputs = opened.dataset.splits["train"].inputs
    return opened.dataset.modality == "text" and not isinstance(inputs[0], str)


def _built_of(opened: Opened, teacher: "Teacher") -> dict[str, Any]:
    """Arguments of ``teachers.load_teacher`` that build the same network."""
    settings, card = opened.config.teacher, teacher.card
    return {
        "name": settings.name,
        "image_size": int(card.preprocessing.get("image_size", 0)),
        "pooling": card.pooling or settings.pooling,
        "max_length": settings.max_length,
        "layer": card.layer,
        "options": dict(card.options),
        "preprocessing": dict(settings.preprocessing),
    }


def _stored(opened: Opened, subject: "Subject", progress: Progress) -> "Stored":
    """The rows that the student learned; for a teacher, its features as they are."""
    from distill.nesting import stored_rows

    full = feature_stores(opened.run)
    width = subject.network.head.in_features
    every = [
        ("full", full),
        *((f.name, s) for f, s in projected_stores(opened.run, full, progress)),
    ]
    fitting = [(name, s) for name, s in every if s["train"].spec.dim == width]
    named = [(name, s) for name, s in fitting if subject.name.endswith(f"-{name}")]
    found = named or fitting
    if not found:
        known = ", ".join(f"{name} of {s['train'].spec.dim}" for name, s in every)
        raise UserError(
            f"{subject.name} gives {width} numbers, and no store of {opened.run.folder} has rows "
            f"of so many ({known}); nest one of its students, or learn --targets labels"
        )
    if len(found) > 1:
        raise UserError(
            f"several stores of {opened.run.folder} have rows of {width} numbers: "
            f"{', '.join(name for name, _ in found)}; nest a student that is named after one"
        )
    name, stores = found[0]
    progress.say(f"it learns the stored rows of {name}; no teacher is needed")
    return stored_rows(stores["train"], opened.dataset.splits["train"])
