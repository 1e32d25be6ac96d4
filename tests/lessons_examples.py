"""Small lessons for the tests of the training stages: coloured images, sentences about animals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill.config import StudentConfig
from distill.datasets import Dataset, Inputs, Split
from distill.lessons import Lesson
from distill.views import Viewed, Views
from stores import FeatureStore
from students import FittedHead, fit_head
from teachers import Teacher, load_teacher
from tests.store_builder import make_store

CLASSES = ("red", "green", "blue")
SIZES = {"train": 41, "validation": 15, "test": 23}
NARROW = {"channels": [4, 8, 8, 8], "stem_width": 4}
EQUATION: dict[str, Any] = {  # 4, alone
    "way": "subspace", "kl_weight": 0.0, "ce_weight": 0.0, "head": "carried",
}  # fmt: skip
PROJECTION = np.random.default_rng(7).standard_normal((8, 5)).astype(np.float32)


@dataclass(frozen=True)
class Listed:
    """Examples that lie in memory, read as if from a file."""

    examples: Sequence[Any]

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, row: int) -> Any:
        return self.examples[row]

    def where(self, row: int) -> str:
        return f"row {row}"


def opened(examples: Sequence[Any]) -> Inputs:
    """These examples as the inputs of a split."""
    return Inputs(Listed(examples), np.arange(len(examples)))


def picture(rng: np.random.Generator, label: int) -> Image.Image:
    """Noise with one channel brighter."""
    pixels = rng.integers(0, 120, (8, 8, 3))
    pixels[..., label] += 100
    return Image.fromarray(pixels.astype(np.uint8))


def sentence(rng: np.random.Generator, label: int) -> str:
    """A cat, a dog or a bird that does something."""
    animal = ("cat", "dog", "bird")[label]
    rest = rng.choice(["sat", "ran", "flew", "on", "the", "mat"], int(rng.integers(1, 6)))
    return f"the {animal} {' '.join(rest)}"


def dataset(modality: str = "image", *, fingerprint: str = "abc") -> Dataset:
    """Three classes; ids that are no positions, and labels in no order."""
    rng = np.random.default_rng(3)
    make = picture if modality == "image" else sentence
    splits = {}
    for place, (name, rows) in enumerate(SIZES.items()):
        labels = rng.permutation(np.arange(rows) % 3).astype(np.int64)
        splits[name] = Split(
            name=name,
            ids=(rng.permutation(rows) * 10 + 1000 * place).astype(np.int64),
            labels=labels,
            inputs=opened([make(rng, int(label)) for label in labels]),
        )
    return Dataset(
        name="colours",
        modality=modality,
        classes=CLASSES,
        splits=splits,
        fingerprint=fingerprint,
    )


def image_teacher(*, weights: str = "random", classes: tuple[str, ...] = ()) -> Teacher:
    """A timm network of a few numbers."""
    return load_teacher(
        "timm/resnet10t", weights=weights, image_size=32, options=NARROW, classes=classes
    )


def stores_of(
    folder: Path, data: Dataset, teacher: Teacher, *, order: np.ndarray | None = None
) -> dict[str, FeatureStore]:
    """Features of every split; the rows of train in another ``order`` if asked for."""
    found = {}
    for name, split in data.splits.items():
        rows = order if order is not None and name == "train" else np.arange(len(split))
        inputs = list(Inputs(split.inputs.reader, split.inputs.rows[rows]))
        assert split.labels is not None
        found[name] = make_store(
            folder / name,
            teacher.embed(teacher.prepare(inputs)).features,
            split.labels[rows],
            ids=split.ids[rows],
            classes=data.classes,
        )
    return found


def projected(folder: Path, features: Mapping[str, FeatureStore]) -> dict[str, FeatureStore]:
    """The first numbers of the features, mixed down to five."""
    return {
        name: make_store(
            folder / name,
            store.features()[:, : len(PROJECTION)] @ PROJECTION,
            store.labels(),
            ids=store.ids(),
            classes=store.spec.classes,
        )
        for name, store in features.items()
    }


def head_of(stores: Mapping[str, FeatureStore]) -> FittedHead:
    """A linear head on stored rows."""
    train, validation = stores["train"], stores["validation"]
    return fit_head(
        train.features(),
        train.labels(),
        validation.features(),
        validation.labels(),
        classes=3,
        l2=(1e-3,),
        max_iterations=100,
    )


def lesson(
    folder: Path, data: Dataset, teacher: Teacher, *, order: np.ndarray | None = None
) -> Lesson:
    """Everything a student of the projected store is taught with."""
    features = stores_of(folder / "features", data, teacher, order=order)
    targets = projected(folder / "projected", features)
    full_head = head_of(features)
    return Lesson(
        target="gaussian-k5-s0",
        targets=targets,
        features=features,
        head=head_of(targets),
        full_head=full_head,
        teacher=teacher.card.weights,
        teacher_parameters=teacher.card.parameters + full_head.weight.size + 3,
        prepare=teacher.prepare,
        preprocessing=teacher.card.preprocessing,
    )


def with_views(
    folder: Path, data: Dataset, teacher: Teacher, taught: Lesson, views: Views
) -> Lesson:
    """The same lesson with stored views of the training examples, in the order of the data."""
    split = data.splits["train"]
    assert split.labels is not None
    seen = Viewed(split.inputs, split.ids, views, data.modality)
    rows = teacher.embed(teacher.prepare([seen[row] for row in range(len(seen))])).features
    told = {"views": views.describe(), "views_digest": seen.digest()}
    features = make_store(
        folder / "views",
        rows,
        np.repeat(split.labels, views.count),
        ids=np.repeat(split.ids, views.count),
        classes=data.classes,
        made_by=told,
        views=views.count,
    )
    targets = make_store(
        folder / "projected" / "views",
        rows[:, : len(PROJECTION)] @ PROJECTION,
        features.labels(),
        ids=features.ids(),
        classes=data.classes,
        made_by=told,
        views=views.count,
    )
    return replace(
        taught,
        features={**taught.features, "views": features},
        targets={**taught.targets, "views": targets},
    )


def with_pool(folder: Path, pool: Dataset, teacher: Teacher, taught: Lesson) -> Lesson:
    """The same lesson with the training examples of other data, whose labels nobody knows."""
    split = pool.splits["train"]
    rows = teacher.embed(teacher.prepare(list(split.inputs))).features
    told = {"fingerprint": pool.fingerprint}
    features = make_store(folder / "pool", rows, ids=split.ids, made_by=told)
    targets = make_store(
        folder / "projected" / "pool",
        rows[:, : len(PROJECTION)] @ PROJECTION,
        ids=split.ids,
        made_by=told,
    )
    return replace(
        taught,
        features={**taught.features, "unlabeled": features},
        targets={**taught.targets, "unlabeled": targets},
        pool=pool,
    )


def student_settings(**changes: Any) -> StudentConfig:
    """A few epochs of a small network."""
    settings: dict[str, Any] = {
        "name": "timm/resnet10t",
        "options": NARROW,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.01,
        "warmup": 0.1,
        **EQUATION,
    }
    return StudentConfig(**(settings | changes))
