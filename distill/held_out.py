"""Training examples as teachers see them that never learned them.

A fine-tuned teacher knows its training rows by heart: their features lie closer to the means of
their classes than those of any row it meets later (neural collapse, Papyan, Han and Donoho 2020),
and a student of them learns a geometry that does not come again. Cross-fitting mends that: for
each of K folds there is a teacher that learned all but this fold, and what it sees of the fold is
mapped to the coordinates of the teacher that learned everything.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int64

from distill.alignment import Alignment
from distill.errors import StageError
from distill.whole import whole
from teachers import Outputs, Prepared, Teacher

FILE = "folds.safetensors"
RECORD = "folds.json"


def folder_of(teacher: Path, fold: int) -> Path:
    """Where the teacher lies that never learned this fold."""
    return teacher / f"fold-{fold}"


@final
@dataclass(frozen=True, eq=False)
class Folds:
    """Which fold each training example is in, and where each fold's teacher sees it."""

    ids: Int64[np.ndarray, " examples"]  # ascending
    fold: Int64[np.ndarray, " examples"]
    alignments: tuple[Alignment, ...]  # of each fold's teacher

    def save(self, folder: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        from safetensors.numpy import save

        tensors = {"ids": self.ids, "fold": self.fold}
        for number, one in enumerate(self.alignments):
            tensors |= {f"matrix.{number}": one.matrix, f"shift.{number}": one.shift}
        with whole(folder / FILE) as scratch:
            scratch.write_bytes(save(tensors))

    @classmethod
    def load(cls, folder: Path) -> "Folds":
        """Read what ``save`` wrote; ``StageError`` where it is damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            found = load_file(folder / FILE)
            count = sum(name.startswith("matrix.") for name in found)
            alignments = tuple(
                Alignment(found[f"matrix.{number}"], found[f"shift.{number}"])
                for number in range(count)
            )
            return cls(found["ids"], found["fold"], alignments)
        except (OSError, SafetensorError, KeyError) as error:
            raise StageError(
                f"{folder / FILE} is missing or damaged; run train-teacher --folds again"
            ) from error


@final
@dataclass(frozen=True, eq=False)
class HeldOut:
    """The teachers of all folds in one: each row goes through the one that never learned it."""

    folds: Folds
    teachers: tuple[Teacher, ...]  # of fold 0, 1, …

    def embed(self, ids: Int64[np.ndarray, " rows"], prepared: Prepared) -> Outputs:
        """Features in the whole teacher's coordinates, logits of the fold's own head.

        ``StageError`` for an example that is in no fold.
        """
        fold, first = self._folds_of(ids), self.teachers[0].card
        features = np.empty((len(ids), first.dim), dtype=np.float32)
        logits = np.empty((len(ids), len(first.classes)), dtype=np.float32)
        for number in np.unique(fold):
            rows = np.flatnonzero(fold == number)
            part = {name: tensor[torch.from_numpy(rows)] for name, tensor in prepared.items()}
            found = self.teachers[number].embed(part)
            features[rows] = self.folds.alignments[number](found.features)
            if found.logits is not None:
                logits[rows] = found.logits
        return Outputs(features=features, logits=logits if first.classes else None)

    def describe(self) -> dict[str, Any]:
        """What decides the rows, for a store to record."""
        return {"folds": len(self.teachers), "weights": [one.card.weights for one in self.teachers]}

    def _folds_of(self, ids: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        place = np.minimum(np.searchsorted(self.folds.ids, ids), len(self.folds.ids) - 1)
        strange = ids[self.folds.ids[place] != ids]
        if len(strange):
            raise StageError(
                f"training example {strange[0]} is in no fold: the teachers of the folds were "
                "taught on other data; teach them on these, or extract without --held-out"
            )
        return self.folds.fold[place]
