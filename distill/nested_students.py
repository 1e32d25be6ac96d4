"""A nested network that answers: read back whole, run at one budget of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from students import Classifier, fresh_head
from students.nested import SavedNested, fill, load, prepare, ranks, read_nested, set_budget
from teachers import load_teacher

FILE = "nested.safetensors"


class NestedStudent(nn.Module):
    """Called with a prepared batch, it gives logits; ``network`` is what ``set_budget`` takes."""

    def __init__(self, network: Classifier, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.card = card

    @property
    def modality(self) -> str:
        """What it reads: "image" or "text"."""
        return str(self.card["modality"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return tuple(self.card["classes"])

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How inputs become what it reads."""
        found: Mapping[str, Any] = self.card["preprocessing"]
        return found

    def embed(self, prepared: Mapping[str, Tensor]) -> Tensor:
        """What its head reads."""
        rows: Tensor = self.network.encoder(prepared)
        return rows

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        """Logits of a prepared batch."""
        logits: Tensor = self.network(prepared)
        return logits


def is_nested(folder: Path) -> bool:
    """Whether ``distill nest`` finished a network there."""
    return (folder / FILE).is_file()


def load_nested_student(folder: Path, *, budget: float = 1.0) -> NestedStudent:
    """Read the network of ``distill nest`` at a budget, each layer in its cheapest form there.

    ``BudgetError`` for a budget outside (0, 1] or out of reach; else as ``students.nested.fill``.
    """
    saved = read_nested(folder)
    network = load(folder) if saved.card["blueprint"] is not None else _teacher(saved)
    set_budget(network, budget)
    prepare(network, [ranks(network)])
    return NestedStudent(network, saved.card)


def _teacher(saved: SavedNested) -> Classifier:
    """A teacher's network as it is built, with other weights, then filled."""
    classes = tuple(saved.card["classes"])
    teacher = load_teacher(**saved.card["teacher"], weights="random")
    network = Classifier(teacher.module, fresh_head(teacher.card.dim, len(classes), seed=0))
    fill(network, saved)
    return network
