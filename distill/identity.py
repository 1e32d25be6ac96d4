"""What a student is made of: its network, its recipe, and all else that decides its weights."""

import hashlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from distill.config import StudentConfig
from distill.datasets import Dataset
from distill.desk import Method
from distill.lessons import Lesson, Material
from students import Blueprint, FittedHead, Recipe, plain_settings

# settings that came later: where they are not set, students of before are the same
_LATER = ("decouple",)
WAYS = "ways"  # in what a comparison is made by: settings of one way alone, by its name


def made_by(
    method: str,
    way: Method,
    settings: StudentConfig,
    *,
    dataset: Dataset,
    lesson: Lesson,
    train: Material,
) -> dict[str, Any]:
    """All that decides the weights; flat, so that a difference has a name."""
    blueprint = blueprint_of(dataset, lesson, settings)
    made: dict[str, Any] = {
        "method": method,
        "network": settings.name,
        "options": settings.options,
        "weights": named_by_content(settings.weights),
        "embeddings": settings.embeddings,
        "image_size": blueprint.image_size,
        "dataset": dataset.fingerprint,
        "classes": list(dataset.classes),
        "teacher": lesson.teacher,
        "preprocessing": dict(lesson.preprocessing),
        "views": train.views,
        "pool": [store.digest for store in train.target_stores[1:]],
    }
    unset = {name for name in _LATER if not getattr(settings, name)}
    made |= {name: getattr(settings, name) for name in way.settings if name not in unset}
    if way.targets:
        stores = [*train.target_stores, lesson.targets["validation"]]
        made |= {
            "dim_out": blueprint.dim_out,
            "target": [store.digest for store in stores],
            "head": _digest(lesson.head),
        }
    if way.features:
        made |= {
            "features": [store.digest for store in train.feature_stores],
            "full_head": _digest(lesson.full_head),
        }
    return plain_settings({**asdict(recipe_of(settings)), **made})


def blueprint_of(dataset: Dataset, lesson: Lesson, settings: StudentConfig) -> Blueprint:
    """The network that these settings name, of the width of the targets."""
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


def recipe_of(settings: StudentConfig) -> Recipe:
    """How to train, of a student's settings."""
    names = [entry.name for entry in fields(Recipe) if entry.name in StudentConfig.model_fields]
    return Recipe(**{name: getattr(settings, name) for name in names})


def named_by_content(name: str) -> str:
    """Name a file by its content: where it lies changes nothing."""
    path = Path(name)
    return f"sha256:{_sha256(path.read_bytes())}" if path.is_file() else name


def _digest(head: FittedHead) -> str:
    return f"sha256:{_sha256(head.weight.tobytes() + head.bias.tobytes())}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
