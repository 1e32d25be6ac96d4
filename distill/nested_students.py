"""A nested network that answers: read back whole, run at one budget of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

from torch import Tensor, nn

from distill.errors import StageError
from students import Classifier, fresh_head
from students.nested import (
    SavedNested,
    budget_of,
    fill,
    load,
    materialise,
    prepare,
    ranks,
    read_nested,
    set_budget,
)
from teachers import load_teacher, rebuild_prepare

FILE = "nested.safetensors"


@final
@dataclass(frozen=True, kw_only=True)
class Read:
    """What the network reads. ``image_size`` 0 is that of the preprocessing."""

    name: str
    in_chans: int = 3
    image_size: int = 0
    vocabulary: int = 0


class NestedStudent(nn.Module):
    """Called with a prepared batch, it gives logits; ``network`` is what ``set_budget`` takes."""

    def __init__(self, network: Classifier, card: Mapping[str, Any], folder: Path) -> None:
        super().__init__()
        self.network = network
        self.card = card
        self.folder = folder
        self.prefix = nn.ModuleDict()  # it has one head, that of all its numbers

    @property
    def dim_out(self) -> int:
        """How many numbers ``embed`` gives."""
        return int(self.network.head.in_features)

    @property
    def made_by(self) -> Mapping[str, Any]:
        """The settings it was nested and taught with."""
        found: Mapping[str, Any] = self.card["made_by"]
        return found

    @property
    def blueprint(self) -> Read:
        """What its inputs are like."""
        if (student := self.card["blueprint"]) is not None:
            named = {name: student[name] for name in ("in_chans", "image_size", "vocabulary")}
            return Read(name=student["name"], **named)
        name = self.card["teacher"]["name"]
        prepared = rebuild_prepare(self.folder, self.modality, self.preprocessing)
        tokenizer = getattr(prepared, "tokenizer", None)
        return Read(name=name, vocabulary=0 if tokenizer is None else len(tokenizer))

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
    network = _at(saved, folder, budget)
    prepare(network, [ranks(network)])
    return NestedStudent(network, saved.card, folder)


def load_plain_student(folder: Path, *, budget: float, gauges: bool) -> NestedStudent:
    """Read the network at a budget as one of torch's own layers, as ``materialise`` makes it."""
    saved = read_nested(folder)
    network = _at(saved, folder, budget)
    share = budget_of(network)
    made = materialise(network, ranks(network), gauges=gauges)
    card = {**saved.card, "made_by": {**saved.card["made_by"], "budget": share}}
    return NestedStudent(cast("Classifier", made), card, folder)


def _at(saved: SavedNested, folder: Path, budget: float) -> Classifier:
    if "blueprint" not in saved.card:
        raise StageError(
            f"{folder} holds a language model, which tells no classes: take distill.load_nested_lm"
        )
    network = load(folder) if saved.card["blueprint"] is not None else _teacher(saved)
    set_budget(network, budget)
    return network


def _teacher(saved: SavedNested) -> Classifier:
    """A teacher's network as it is built, with other weights, then filled."""
    classes = tuple(saved.card["classes"])
    teacher = load_teacher(**saved.card["teacher"], weights="random")
    network = Classifier(teacher.module, fresh_head(teacher.card.dim, len(classes), seed=0))
    fill(network, saved)
    return network
