"""A trained student, ready to answer: inputs in, class names and probabilities out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float32, Float64

from distill.errors import StageError
from distill.nested_students import NestedStudent, is_nested, load_nested_student
from distill.shipping import OnnxStudent, read_onnx
from students import LoaderFeed, PretrainedStudent, forward_rows, load, place
from teachers import Prepare, rebuild_prepare

FILE, SHARED = "student.safetensors", "config.json"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A student with the preprocessing it was taught with. Needs nothing of the teacher."""

    name: str
    student: PretrainedStudent | OnnxStudent | NestedStudent
    prepare: Prepare
    device: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the columns of ``probabilities``."""
        return self.student.classes

    def embed(
        self, inputs: Sequence[Any], *, batch_size: int = 64
    ) -> Float32[np.ndarray, "rows dim_out"]:
        """The student's own numbers of RGB images, strings or pairs of strings."""
        if len(inputs) == 0:
            return np.zeros((0, self.student.dim_out), dtype=np.float32)
        return self._rows(_Embedding(self.student), inputs, batch_size)

    def probabilities(
        self, inputs: Sequence[Any], *, batch_size: int = 64
    ) -> Float64[np.ndarray, "rows classes"]:
        """Softmax of the logits of RGB images, strings or pairs of strings; rows sum to 1."""
        if len(inputs) == 0:
            return np.zeros((0, len(self.classes)))
        logits = self._rows(self.student.network, inputs, batch_size)
        return torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()

    def predict(
        self, inputs: Sequence[Any], *, batch_size: int = 64
    ) -> tuple[tuple[str, ...], Float64[np.ndarray, "rows classes"]]:
        """Name the likeliest class of each input (of equal ones the first), with all shares."""
        found = self.probabilities(inputs, batch_size=batch_size)
        return tuple(self.classes[index] for index in found.argmax(axis=1)), found

    def _rows(
        self, network: torch.nn.Module, inputs: Sequence[Any], batch_size: int
    ) -> Float32[np.ndarray, "rows width"]:
        feed = LoaderFeed(inputs, self.prepare, {})
        return forward_rows(network, feed, batch_size=batch_size, device=self.device)


class _Embedding(torch.nn.Module):
    """A student without its head."""

    def __init__(self, student: PretrainedStudent | OnnxStudent | NestedStudent) -> None:
        super().__init__()
        self.student = student

    def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.student.embed(prepared)


def load_predictor(
    path: Path | str, *, device: str = "cpu", budget: float | None = None
) -> Predictor:
    """Read a student, and how its inputs are prepared.

    ``path`` is the folder that ``train-student`` left, one of ``save_pretrained``, an exported
    file ….onnx, or a name on the hub; or that of ``nest``, which answers at a ``budget``, 1 unless
    said. ``CheckpointError`` for a file that is damaged or of something else, ``StageError`` where
    it, or what prepares its inputs, is missing, and for a budget of what has but one.
    """
    path, name = Path(path), str(path)
    if is_nested(path):
        nested = load_nested_student(path, budget=1.0 if budget is None else budget)
        place(nested, device)
        prepare = rebuild_prepare(path, nested.modality, nested.preprocessing)
        return Predictor(name=path.name, student=nested, prepare=prepare, device=device)
    if budget is not None:
        raise StageError(f"{path} is not nested and has no budgets; run distill nest first")
    if path.suffix == ".onnx":
        exported = read_onnx(path)
        with exported.facts.unpacked() as folder:
            prepare = rebuild_prepare(folder, exported.modality, exported.preprocessing)
        return Predictor(name=path.stem, student=exported, prepare=prepare, device="cpu")
    if path.is_dir() and not any((path / file).is_file() for file in (FILE, SHARED)):
        raise StageError(f"no student in {path}; run train-student first")
    student = load(path) if path.exists() else PretrainedStudent.from_pretrained(name)
    place(student, device)
    folder = student.folder or path
    prepare = rebuild_prepare(folder, student.modality, student.preprocessing)
    named = folder.name if path.exists() else name
    return Predictor(name=named, student=student, prepare=prepare, device=device)
