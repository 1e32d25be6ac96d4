"""Stored rows beside the inputs they were made of, matched by id.

Never by position: a store made from other examples, or with other labels, is refused. Augmented
views are made again from the numbers that the store recorded, so that a student sees the very
pixels whose features it learns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from distill.datasets import Dataset, Split
from distill.errors import StageError
from distill.lessons import UNLABELLED, Lesson, Matched, Material, Reordered, Rows
from distill.runs import POOL, VIEWS
from distill.views import Viewed, Views
from stores import FeatureStore

NEEDED = ("train", "validation", "test")
ALL_VIEWS = -1


def match(lesson: Lesson, splits: Mapping[str, Split]) -> dict[str, Matched]:
    """Train, validation and test as they are; ``StageError`` says what does not fit."""
    return {name: _match(name, lesson, splits) for name in NEEDED}


def material(lesson: Lesson, dataset: Dataset, *, views: int, pool: bool) -> Material:
    """What is trained on: ``views`` of each example (-1: all that are stored; 0: the example).

    Raises ``StageError`` where more views are asked for than were stored, or where the stores do
    not fit the data.
    """
    stored = lesson.targets[VIEWS].spec.views if VIEWS in lesson.targets else 0
    if views > stored:
        has = _views(stored) if stored else "no views of the examples"
        are = "is" if views == 1 else "are"
        raise StageError(
            f"{_views(views)} {are} asked for and the store of {lesson.target} holds "
            f"{has}; extract with --views {views}, or train with --views {stored}"
        )
    use = stored if views == ALL_VIEWS else views
    clean = _match("train", lesson, dataset.splits)
    parts = [_match_views(lesson, dataset, clean, use) if use else clean]
    if pool and lesson.pool is not None and POOL in lesson.targets:
        parts.append(_match_pool(lesson, lesson.pool, use))
    return Material(tuple(parts))


def _match(name: str, lesson: Lesson, splits: Mapping[str, Split]) -> Matched:
    if name not in splits or len(splits[name].ids) == 0:
        raise StageError(f"the data have no examples in their {name} split")
    targets, features = _stores_of(name, lesson, views=1)
    ids = targets.ids()
    rows = _rows_of(splits[name], ids, str(targets.path))
    labels = targets.labels()
    _same_labels(splits[name], rows, ids, labels, targets)
    return Matched(
        name=name,
        ids=ids,
        labels=labels,
        inputs=_reordered(splits[name].inputs, rows),
        targets=targets,
        features=features,
    )


def _match_views(lesson: Lesson, dataset: Dataset, clean: Matched, used: int) -> Matched:
    """The stored views of the training examples, and the same views to be made again."""
    targets, features = _stores_of(VIEWS, lesson)
    split = dataset.splits["train"]
    inputs, ids, views = _viewed(split, targets, dataset.modality)
    labels = targets.labels()
    _same_labels(split, _rows_of(split, ids, str(targets.path)), ids, labels[::views], targets)
    if not np.array_equal(np.sort(ids), np.sort(clean.ids)):
        raise StageError(f"{targets.path} holds views of other examples than train; extract again")
    if targets.spec.made_by["views"]["mix"] != "none":
        labels = np.full_like(labels, UNLABELLED)  # half of such a view is of another class
    return Matched(
        name=VIEWS,
        ids=targets.ids(),
        labels=labels,
        inputs=inputs,
        targets=targets,
        features=features,
        views=views,
        used=used,
    )


def _match_pool(lesson: Lesson, pool: Dataset, used: int) -> Matched:
    """The unlabeled rows: views of them where views are learned and there are any."""
    targets, features = _stores_of(POOL, lesson)
    stored = targets.spec.made_by.get("fingerprint")
    if stored != pool.fingerprint:
        raise StageError(
            f"{pool.name} does not hold the unlabeled data that {targets.path} was made from any "
            "more; bring them back, extract again, or train with --no-pool"
        )
    split = pool.splits["train"]
    inputs, _, views = _viewed(split, targets, pool.modality)
    return Matched(
        name=POOL,
        ids=targets.ids(),
        labels=np.full(targets.spec.rows, UNLABELLED, dtype=np.int64),
        inputs=inputs,
        targets=targets,
        features=features,
        views=views,
        used=min(used, views) or views,
    )


def _viewed(
    split: Split, store: FeatureStore, modality: str
) -> tuple[Sequence[Any], Int64[np.ndarray, " examples"], int]:
    """Inputs in the order of the store's rows, the ids of its examples, views of each."""
    views = store.spec.views
    ids = store.ids()[::views]
    rows = _rows_of(split, ids, str(store.path))
    if "views" not in store.spec.made_by:
        return _reordered(split.inputs, rows), ids, views
    recorded = Views.from_json(store.spec.made_by["views"])
    inputs = Viewed(_reordered(split.inputs, rows), ids, recorded, modality)
    if inputs.digest() != store.spec.made_by["views_digest"]:
        raise StageError(
            f"the views in {store.path} cannot be made again as they were: a library that draws, "
            "decodes or resizes has another version now; extract again, or train with --views 0"
        )
    return inputs, ids, views


def _stores_of(
    name: str, lesson: Lesson, *, views: int | None = None
) -> tuple[FeatureStore, FeatureStore]:
    for what, stores in (
        ("the projected store", lesson.targets),
        ("the store of features", lesson.features),
    ):
        if name not in stores:
            raise StageError(f"{what} lacks the {name} split; run extract and project again")
        store = stores[name]
        if views is not None and store.spec.views != views:
            raise StageError(
                f"{store.path} holds {_views(store.spec.views)} instead of {views}; extract again"
            )
    targets, features = lesson.targets[name], lesson.features[name]
    if not np.array_equal(targets.ids(), features.ids()):
        raise StageError(
            f"{targets.path} and {features.path} hold different examples; run project again"
        )
    return targets, features


def _same_labels(
    split: Split,
    rows: Rows,
    ids: Int64[np.ndarray, " rows"],
    labels: Int64[np.ndarray, " rows"],
    store: FeatureStore,
) -> None:
    if split.labels is not None and not np.array_equal(split.labels[rows], labels):
        at = int(np.flatnonzero(split.labels[rows] != labels)[0])
        raise StageError(
            f"example {ids[at]} has label {labels[at]} in {store.path} and "
            f"{split.labels[rows][at]} in the data; run extract and project again"
        )


def _reordered(inputs: Sequence[Any], rows: Rows) -> Sequence[Any]:
    same = len(rows) == len(inputs) and np.array_equal(rows, np.arange(len(rows)))
    return inputs if same else Reordered(inputs, rows)


def _rows_of(
    split: Split, ids: Int64[np.ndarray, " rows"], where: str
) -> Int64[np.ndarray, " rows"]:
    """For each stored example, its row in the data."""
    order = np.argsort(split.ids, kind="stable")
    known = split.ids[order]
    if len(np.unique(known)) != len(known):
        raise StageError(f"the {split.name} split gives several examples the same id")
    if not np.array_equal(np.sort(ids), known):
        lost, strange = np.setdiff1d(known, ids), np.setdiff1d(ids, known)
        only = (
            f"example {lost[0]} is only in the data"
            if len(lost)
            else (
                f"example {strange[0]} is only in the store"
                if len(strange)
                else "an id stands twice"
            )
        )
        raise StageError(
            f"{where} holds other examples than the data ({split.name}: {len(ids)} rows stored, "
            f"{len(known)} in the data; {only}); run extract and project again"
        )
    rows: Int64[np.ndarray, " rows"] = order[np.searchsorted(known, ids)]
    return rows


def _views(number: int) -> str:
    return f"{number} view{'s' if number != 1 else ''} of each example"
