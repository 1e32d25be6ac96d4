"""A pool: the training rows of other data without their labels, for students to learn from.

Nothing of a run's own data may come back through it. Two rows are the same example where they
have the same place: the file, and the row in it.
"""

import hashlib
import os
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64

from distill.config import DataConfig
from distill.datasets.base import Dataset, Inputs, Reader, Source, Split
from distill.datasets.checks import openable
from distill.datasets.errors import DataError
from distill.datasets.splits import split_ids, usable_rows
from distill.progress import Progress


def assemble_pool(
    name: str, source: Source, config: DataConfig, own: Iterable[Split], progress: Progress
) -> Dataset:
    """Make the data set of one split that a source's training rows become.

    Rows of ``own`` splits are left out. ``DataError`` where nothing is left.
    """
    part = source.parts["train"]
    rows = usable_rows(part, config)
    taken = {place for split in own for place in _places(split.inputs.reader, split.inputs.rows)}
    mine = np.array([place in taken for place in _places(part.reader, rows)], np.bool_)
    if mine.all():
        raise DataError(
            f"every training row of {name} is this run's own already: nothing is left to learn "
            "without labels; name other data with --unlabeled"
        )
    rows = rows[~mine]
    skipped = [part.bad[row] for row in sorted(part.bad)]
    if config.skip_bad and source.slow_to_check:
        rows, unreadable = openable(part.reader, rows, "unlabeled", progress)
        skipped += unreadable
    split = Split(
        name="train",
        ids=split_ids("train", rows),
        labels=None,
        inputs=Inputs(part.reader, rows),
        skipped=tuple(skipped),
    )
    left_out = f"{int(mine.sum())} rows of {name} are this run's own and are left out of the pool"
    return Dataset(
        name=name,
        modality=source.modality,
        classes=(),
        splits={"train": split},
        fingerprint=_fingerprint(source, split),
        notes=(left_out,) if mine.any() else (),
    )


def _places(reader: Reader, rows: Int64[np.ndarray, " n"]) -> Iterable[str]:
    """Where each row lies, however its folder was written down."""
    return (os.path.abspath(reader.where(row)) for row in rows.tolist())  # noqa: PTH100 - no links


def _fingerprint(source: Source, split: Split) -> str:
    digest = hashlib.sha256(b"distill pool 1\0" + source.digest.encode())
    digest.update(source.modality.encode() + split.ids.tobytes())
    return digest.hexdigest()[:32]
