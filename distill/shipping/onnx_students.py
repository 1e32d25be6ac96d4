"""An exported ONNX student, run by onnxruntime on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.errors import StageError, first_line
from distill.shipping.facts import Facts
from distill.shipping.formats import check_parts


class OnnxStudent(nn.Module):
    """Called with a prepared batch, it gives logits, as the student it was made of does."""

    def __init__(self, session: Any, facts: Facts) -> None:
        super().__init__()
        self.session = session
        self.facts = facts
        self.inputs = tuple(found.name for found in session.get_inputs())

    @property
    def network(self) -> nn.Module:
        """What gives logits: this."""
        return self

    @property
    def modality(self) -> str:
        """What it reads: "image" or "text"."""
        return self.facts.modality

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return self.facts.classes

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How inputs become what it reads."""
        return self.facts.preprocessing

    @property
    def dim_out(self) -> int:
        """How many numbers ``embed`` gives."""
        return self.facts.embedding

    def embed(self, prepared: Mapping[str, Tensor]) -> Tensor:
        """Rows of the target space."""
        return torch.from_numpy(self.results(["embedding"], prepared)[0])

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        """Logits of a prepared batch."""
        return torch.from_numpy(self.results(["logits"], prepared)[0])

    def results(
        self, outputs: Sequence[str], prepared: Mapping[str, Tensor]
    ) -> tuple[np.ndarray, ...]:
        """Results by their names; of what was prepared, what it does not read is left out."""
        feed = {name: prepared[name].cpu().numpy() for name in self.inputs}
        return tuple(self.session.run(list(outputs), feed))


def read_onnx(path: Path) -> OnnxStudent:
    """Open a file of ``distill export``; ``StageError`` for any other."""
    check_parts("onnx", ("onnxruntime",))
    import onnxruntime

    if not path.is_file():
        raise StageError(f"there is no file {path}")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise StageError(f"{path} is no ONNX file that can be run: {first_line(error)}") from error
    texts = session.get_modelmeta().custom_metadata_map
    return OnnxStudent(session, Facts.from_texts(texts, path))
