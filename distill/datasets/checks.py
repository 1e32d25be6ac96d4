"""What a data set must hold before anything is made of it; every refusal is one line."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int64

from distill.datasets.base import Reader, Source, Split
from distill.datasets.errors import BadInputError, DataError, some
from distill.progress import Progress


def check_rows(name: str, source: Source, usable: Mapping[str, Int64[np.ndarray, " n"]]) -> None:
    """No split is empty, and training shows every class, whether declared or only tested."""
    for role, rows in usable.items():
        if len(rows) == 0:
            why = "every row of it was left out" if len(source.parts[role].reader) else "empty"
            raise DataError(f"the {role} split of {name} has no examples: {why}")
    shown = source.parts["train"].labels
    if shown is None:
        return
    known = np.unique(shown[usable["train"]])
    for role, rows in usable.items():
        labels = source.parts[role].labels
        unseen = [] if labels is None else np.setdiff1d(labels[rows], known).tolist()
        if unseen:
            names = some(repr(source.classes[label]) for label in unseen)
            raise DataError(
                f"the {role} split of {name} has {len(unseen)} classes that train never shows: "
                f"{names}; remove these rows or add training examples"
            )
    empty = np.setdiff1d(np.arange(len(source.classes)), known).tolist()
    if empty:
        names = some(repr(source.classes[label]) for label in empty)
        raise DataError(
            f"{len(empty)} of the {len(source.classes)} classes that {name} declares have no "
            f"example in train: {names}; add some or declare only those that there are"
        )


def check_splits(
    name: str, classes: tuple[str, ...], splits: Mapping[str, Split], *, limit: int
) -> None:
    """Something is left in every split, and there is something to tell apart."""
    for role, split in splits.items():
        if len(split) == 0:
            raise DataError(
                f"no example of the {role} split of {name} can be read; the first: "
                f"{split.skipped[0]}"
            )
    labels = splits["train"].labels
    if labels is None:
        return
    present = np.unique(labels)
    if len(present) < 2:
        limited = f" (limit = {limit})" if limit else ""
        raise DataError(
            f"the training examples of {name} are all of one class, "
            f"{classes[int(present[0])]!r}{limited}; at least two are needed"
        )


def openable(
    reader: Reader, rows: Int64[np.ndarray, " n"], role: str, progress: Progress
) -> tuple[Int64[np.ndarray, " kept"], list[str]]:
    """Open every row once: those that can be read, and what was wrong with the others."""

    def problem(row: int) -> str:
        try:
            reader.read(row)
        except BadInputError as error:
            return error.problem
        return ""

    problems: list[str] = []
    with (
        progress.task(f"checking {role}", total=len(rows), unit="inputs") as advance,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,  # decoding releases the lock
    ):
        for start in range(0, len(rows), 1024):  # no long queue of futures
            block = rows[start : start + 1024]
            problems += pool.map(problem, block.tolist())
            advance(len(block))
    kept = np.array([text == "" for text in problems], np.bool_)
    return rows[kept], [text for text in problems if text]
