"""A trained student, ready to answer: inputs in, class names and probabilities out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64

from distill.errors import StageError
from students import LoaderFeed, SavedStudent, forward_rows, load_student, place
from teachers import Prepare, rebuild_prepare

FILE = "student.safetensors"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A student with the preprocessing it was taught with. Needs nothing of the teacher."""

    name: str
    student: SavedStudent
    prepare: Prepare
    device: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the columns of ``probabilities``."""
        return self.student.classes

    def probabilities(
        self, inputs: Sequence[Any], *, batch_size: int = 64
    ) -> Float64[np.ndarray, "rows classes"]:
        """Softmax of the logits of RGB images, strings or pairs of strings; rows sum to 1."""
        if len(inputs) == 0:
            return np.zeros((0, len(self.classes)))
        feed = LoaderFeed(inputs, self.prepare, {})
        logits = forward_rows(self.student.network, feed, batch_size=batch_size, device=self.device)
        return torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()

    def predict(
        self, inputs: Sequence[Any], *, batch_size: int = 64
    ) -> tuple[tuple[str, ...], Float64[np.ndarray, "rows classes"]]:
        """Name the likeliest class of each input (of equal ones the first), with all shares."""
        found = self.probabilities(inputs, batch_size=batch_size)
        return tuple(self.classes[index] for index in found.argmax(axis=1)), found


def load_predictor(folder: Path, *, device: str = "cpu") -> Predictor:
    """Read the student that ``train-student`` left in ``folder``.

    ``CheckpointError`` for a file that is damaged or of something else, ``StageError`` where it,
    or what prepares its inputs, is missing.
    """
    if not (folder / FILE).is_file():
        raise StageError(f"no student in {folder}; run train-student first")
    student = load_student(folder / FILE)
    place(student.network, device)
    prepare = rebuild_prepare(folder, student.blueprint.modality, student.preprocessing)
    return Predictor(name=folder.name, student=student, prepare=prepare, device=device)
