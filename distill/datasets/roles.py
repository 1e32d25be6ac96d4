"""Which file, folder or official split is train, validation or test, by its name."""

import re
from collections.abc import Sequence

from distill.config import DataConfig
from distill.datasets.errors import DataError, some
from distill.errors import nearest

SYNONYMS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def chosen_roles(
    names: Sequence[str],
    config: DataConfig,
    where: str,
    *,
    must: Sequence[str] = ("train",),
    whole: bool = False,
) -> dict[str, list[str]]:
    """Names that stand for each split; ``[]`` for a split the data does not have.

    A split name set in the config must be there; a default one also goes by its synonyms, and
    may be missing unless it is in ``must``. Unless they must be ``whole``, names may carry more
    than the word (``mnli-train-00001``).
    """
    asked = {
        "train": config.train_split,
        "validation": config.validation_split,
        "test": config.test_split,
    }
    if len(set(asked.values())) < len(asked):
        raise DataError(
            "train, validation and test must be different splits: choices are made on validation, "
            f"test is read once; got {some(asked.values())}"
        )
    found: dict[str, list[str]] = {}
    for role, name in asked.items():
        words = SYNONYMS[role] if name == role else (name,)
        # an exact name outranks a name that merely contains the word
        found[role] = [given for given in names if given.lower() == words[0].lower()]
        if not found[role]:
            found[role] = [given for given in names if _says(given, words, whole)]
        if not found[role] and (name != role or role in must):
            raise DataError(
                f"{where} has no {role} split {name!r}; it has {some(names)}"
                f"{nearest(name, names)} (data.{role}_split names it)"
            )
    return found


def _says(name: str, words: Sequence[str], whole: bool) -> bool:
    """Whether a word stands in the name by itself: ``a-val_1`` says val, ``valley`` does not."""
    pattern = "|".join(re.escape(word) for word in words)
    if whole:
        return re.fullmatch(pattern, name, re.I) is not None
    return re.search(rf"(?<![A-Za-z0-9])({pattern})(?![A-Za-z0-9])", name, re.I) is not None
