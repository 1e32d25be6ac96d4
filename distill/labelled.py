"""The labelled splits that classifiers are trained and judged on."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from distill.datasets import Split
from distill.errors import StageError
from stores import FeatureStore

SPLITS = ("train", "validation", "test")


def labels_of(split: Split) -> Int64[np.ndarray, " rows"]:
    """Labels of a split of the data; ``StageError`` where it has none."""
    if split.labels is None:
        raise StageError(f"the {split.name} split has no labels")
    return split.labels


def class_names(splits: Mapping[str, FeatureStore]) -> tuple[str, ...]:
    """Names of the classes, once every split is there, labelled and of the same classes.

    Numbers where the stores have no names. ``StageError`` for anything less, and for training
    rows of one class only.
    """
    for name in SPLITS:
        if name not in splits:
            raise StageError(
                f"there is no {name} split, which classifiers need; "
                f"the store has {', '.join(splits) or 'none'}; "
                "extract or import data with all three, or one split to be carved into them"
            )
        if not splits[name].spec.labelled:
            raise StageError(
                f"{splits[name].path} has no labels, which classifiers need; name the label column "
                "with --label-column (extract) or the file with --labels (import)"
            )
    train = splits["train"]
    if len({splits[name].spec.classes for name in SPLITS}) > 1:
        raise StageError(f"the splits of {train.path.parent} do not name the same classes")
    names = train.spec.classes or tuple(
        str(label) for label in range(1 + max(int(splits[n].labels().max()) for n in SPLITS))
    )
    present = np.unique(train.labels())
    if len(present) == 1:
        raise StageError(
            f"{train.path.parent}: all {train.spec.rows} training rows are of class "
            f"{names[present[0]]!r}; a classifier needs at least two"
        )
    return names
