"""A student as a plain function of tensors, which is what an exporter traces.

Its results are ``embedding`` (rows, k), ``logits`` (rows, classes), and ``logits_<width>`` for each
head on the first numbers of the embedding. Rows, and the tokens of texts, may be any number.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.errors import StageError, first_line
from distill.nested_students import NestedStudent
from students import PretrainedStudent, StudentError

BATCHES = (1, 3, 17)  # a traced network is held against its student at these
TRACED = 2  # rows, and tokens, that it is traced with are more: of 0 and 1 exporters make constants
LEAST_TOKENS, TRACED_TOKENS = 2, 7
MOST_TOKENS = 128  # of texts without a longest length

Shipped = PretrainedStudent | NestedStudent  # the latter at one budget, of plain layers


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A function of tensors, the names of its inputs and results, and what it is called with."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    student: Shipped

    @property
    def axes(self) -> tuple[str, ...]:
        """The free axes of every input, the first ones."""
        return ("batch", "tokens") if self.student.modality == "text" else ("batch",)

    def example(self, rows: int, *, seed: int = 0) -> dict[str, Tensor]:
        """Inputs that are drawn; texts have as many tokens as the batch's place allows."""
        tokens = _tokens(self.student, rows)
        return _drawn(self.student, self.inputs, rows, tokens, seed=seed)

    def batches(self) -> list[dict[str, Tensor]]:
        """What an exported file is called with to be checked."""
        return [self.example(rows, seed=rows) for rows in BATCHES]

    def expected(self, inputs: dict[str, Tensor]) -> tuple[np.ndarray, ...]:
        """Give what the student itself says."""
        with torch.inference_mode():
            found = _results(self.student, inputs)
        return tuple(tensor.numpy() for tensor in found)


class _Results(nn.Module):
    """Registers what is exported; ``results`` are those of ``_results``."""

    def __init__(self, student: Shipped) -> None:
        super().__init__()
        self.network = student.network
        self.prefix = student.prefix

    def results(self, prepared: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return _results(self, prepared)


def _results(parts: Any, prepared: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    rows: Tensor = parts.network.encoder(prepared)
    narrow = [head(rows[:, : int(width)]) for width, head in parts.prefix.items()]
    return rows, parts.network.head(rows), *narrow


class _OfImages(_Results):
    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        return self.results({"pixel_values": pixel_values})


class _OfTexts(_Results):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return self.results({"input_ids": input_ids, "attention_mask": attention_mask})


class _OfPairs(_Results):
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, ...]:
        return self.results(
            {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
            }
        )


GRAPHS: dict[tuple[str, ...], type[_Results]] = {
    ("pixel_values",): _OfImages,
    ("input_ids", "attention_mask"): _OfTexts,
    ("input_ids", "attention_mask", "token_type_ids"): _OfPairs,
}


def graph_of(student: Shipped) -> Graph:
    """Choose the inputs that matter to this student; ``StageError`` if it cannot be called so."""
    inputs: tuple[str, ...] = ("pixel_values",)
    if student.modality == "text":
        inputs = ("input_ids", "attention_mask")
        if student.preprocessing.get("pairs") and _tells_sides_apart(student):
            inputs = (*inputs, "token_type_ids")
    outputs = ("embedding", "logits", *(f"logits_{width}" for width in student.prefix))
    module = GRAPHS[inputs](student).eval()
    graph = Graph(module=module, inputs=inputs, outputs=outputs, student=student)
    _called(student, graph.example(TRACED))
    return graph


def traced(graph: Graph) -> torch.export.ExportedProgram:
    """Trace it with its axes free; ``StageError`` for networks that cannot be."""
    free = dict.fromkeys(range(len(graph.axes)), torch.export.Dim.DYNAMIC)
    example = graph.example(TRACED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            return torch.export.export(
                graph.module,
                tuple(example[name] for name in graph.inputs),
                dynamic_shapes=dict.fromkeys(graph.inputs, free),
            )
    except Exception as error:  # whatever an own network does that cannot be traced
        raise StageError(
            f"{graph.student.blueprint.name} cannot be exported with any number of rows: "
            f"{first_line(error)}"
        ) from error


def largest_difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Largest distance of any result from what is expected, relative to that one's largest."""
    worst = 0.0
    for want, have in zip(expected, found, strict=True):
        if want.shape != have.shape:
            raise StageError(f"a result has shape {have.shape} instead of {want.shape}")
        size = float(np.abs(want).max()) or 1.0
        worst = max(worst, float(np.abs(want - have).max()) / size)
        if not np.isfinite(have).all():
            return float("inf")
    return worst


def _tokens(student: Shipped, rows: int) -> int:
    """A few for one row, as many as there may be for the largest batch, some in between."""
    most = int(student.preprocessing.get("max_length") or MOST_TOKENS)
    return {BATCHES[0]: LEAST_TOKENS, BATCHES[-1]: most}.get(rows, min(TRACED_TOKENS, most))


def _drawn(
    student: Shipped, names: Sequence[str], rows: int, tokens: int, *, seed: int
) -> dict[str, Tensor]:
    blueprint, generator = student.blueprint, torch.Generator().manual_seed(seed)
    if student.modality == "image":
        side = blueprint.image_size or int(student.preprocessing.get("image_size", 0))
        if not side:
            raise StageError(f"nothing says how large the images of {blueprint.name} are")
        pixels = torch.randn((rows, blueprint.in_chans, side, side), generator=generator)
        return {"pixel_values": pixels}
    shape = (rows, tokens)
    ids = torch.randint(0, blueprint.vocabulary, shape, generator=generator)
    lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths).long()
    drawn: dict[str, Tensor] = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in names:
        drawn["token_type_ids"] = torch.randint(0, 2, shape, generator=generator) * mask
    return drawn


def _tells_sides_apart(student: Shipped) -> bool:
    """Whether the network reads which text of a pair a token is of."""
    prepared = _drawn(student, ("input_ids",), TRACED, TRACED_TOKENS, seed=0)
    first, second = (
        {**prepared, "token_type_ids": torch.full_like(prepared["input_ids"], side)}
        for side in (0, 1)
    )
    return not torch.equal(_called(student, first), _called(student, second))


def _called(student: Shipped, prepared: dict[str, Any]) -> Tensor:
    try:
        with torch.inference_mode():
            return student.embed(prepared)
    except (RuntimeError, KeyError, IndexError, TypeError) as error:
        told = {name: tuple(tensor.shape) for name, tensor in prepared.items()}
        raise StudentError(
            f"{student.blueprint.name} cannot read inputs of {told}: {first_line(error)}"
        ) from error
