"""Small networks to be nested by the tests of ``distill nest``: of images, and of text."""

from pathlib import Path
from typing import Any

from distill.config import NestConfig
from distill.datasets import Dataset
from distill.findings import Nested
from distill.nesting import Stored, Subject, digest_of
from distill.progress import SILENT, Progress
from distill.stages.nest import nest
from students import Classifier, fresh_head
from teachers import Teacher, load_teacher
from tests.lessons_examples import NARROW, dataset, image_teacher
from tests.teachers_examples import bert_folder

IMAGES, TEXTS = dataset(), dataset("text")
SMALL: dict[str, Any] = {
    "calibration": 16,
    "probe": 16,
    "candidates": 3,
    "points": 3,
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 3e-3,
}


def settings(**changes: Any) -> NestConfig:
    """A few steps of few ranks."""
    return NestConfig(**(SMALL | {"include": ("convolution",)} | changes))


def subject_of(teacher: Teacher, built: dict[str, Any]) -> Subject:
    """A teacher that was taught nothing, with a head on three classes."""
    network = Classifier(teacher.module, fresh_head(teacher.card.dim, 3, seed=0))
    card = {
        "blueprint": None,
        "teacher": built,
        "modality": teacher.card.modality,
        "classes": list(IMAGES.classes),
        "preprocessing": {**teacher.card.preprocessing, "pairs": False},
    }
    return Subject(
        name="teacher",
        network=network,
        prepare=teacher.prepare,
        card=card,
        made_by={"network": digest_of(network)},
    )


def image_subject() -> Subject:
    """A convolutional network with BatchNorm."""
    built = {"name": "timm/resnet10t", "image_size": 32, "options": NARROW}
    return subject_of(image_teacher(), built)


def text_subject(folder: Path) -> Subject:
    """A tiny BERT."""
    name = f"hf/{bert_folder(folder / 'bert')}"
    teacher = load_teacher(name, weights="pretrained", max_length=16)
    return subject_of(teacher, {"name": name, "max_length": 16})


def nested(
    subject: Subject,
    folder: Path,
    *,
    data: Dataset = IMAGES,
    progress: Progress = SILENT,
    stored: Stored | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> Nested:
    """The stage on the CPU."""
    return nest(
        subject,
        data,
        folder=folder,
        settings=settings(**changes),
        workers=0,
        device="cpu",
        progress=progress,
        stored=stored,
        overwrite=overwrite,
    )
