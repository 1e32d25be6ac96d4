"""What a way of teaching is given, and the network that it gives back, ready to learn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, final

import numpy as np
from jaxtyping import Float32
from torch import Tensor, nn

from distill.config import StudentConfig
from distill.errors import StageError
from distill.lessons import Lesson, Material
from students import (
    Blueprint,
    Classifier,
    Encoder,
    FittedHead,
    build,
    fresh_head,
    positions_of,
    slice_embeddings,
)

Take = Callable[[np.ndarray], Tensor]
Loss = Callable[[Any, dict[str, Tensor]], Tensor]  # what the network gives, targets -> scalar


def _nothing() -> None:
    """Serve where nothing has to be done after training."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Pupil:
    """A network about to learn."""

    network: nn.Module  # what is trained; may hold parts that help only while it learns
    student: Classifier  # what is kept of it: the same modules
    targets: Mapping[str, Take]  # what each training row is compared with
    loss: Loss
    fold: Callable[[], None] = _nothing  # after training: put into the student what belongs there
    material: Material | None = None  # the rows it can learn, where those are not all
    prefixes: Mapping[int, FittedHead] | None = None  # heads of widths below the student's

    @property
    def encoder(self) -> Encoder:
        """The student without its head."""
        return cast(Encoder, self.student.encoder)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Desk:
    """All that a way of teaching may use."""

    blueprint: Blueprint
    lesson: Lesson
    train: Material
    settings: StudentConfig
    device: str

    @property
    def classes(self) -> int:
        """How many classes the heads tell apart."""
        return len(self.lesson.full_head.bias)

    def encoder(self, dim_out: int | None = None) -> Encoder:
        """The network with the initial weights of the settings' seed.

        With ``embeddings = "teacher"``, those of tokens are cut from the teacher's.
        ``dim_out`` is the blueprint's unless given; 0 asks for the body's own width, no neck.
        """
        width = self.blueprint.dim_out if dim_out is None else dim_out
        blueprint = replace(self.blueprint, dim_out=width)
        encoder = build(blueprint, weights=self.settings.weights, seed=self.settings.seed)
        self._check_positions(encoder)
        if self.settings.embeddings == "teacher":
            slice_embeddings(encoder, self._embeddings())
        return encoder

    def _check_positions(self, encoder: Encoder) -> None:
        """Refuse a student that cannot read texts as long as its teacher reads them."""
        cut = int(self.lesson.preprocessing.get("max_length", 0))
        most, taken = positions_of(encoder.body)
        if 0 < most < cut:
            raise StageError(
                f"{self.settings.name} has positions for {most} tokens, and its teacher reads "
                f"{cut} of a text: build it with max_position_embeddings = {cut + taken} among the "
                f"student's options, or extract with --max-length {most}"
            )

    def _embeddings(self) -> Float32[np.ndarray, "tokens width"]:
        if self.settings.weights != "random":
            raise StageError(
                "a student whose weights are read from a file has its own token embeddings; "
                "train it with --embeddings random"
            )
        if self.lesson.embeddings is None:
            raise StageError(
                f"{self.settings.name} cannot begin with its teacher's token embeddings: the "
                "teacher has none; train it with --embeddings random"
            )
        return self.lesson.embeddings

    def head(self, dim: int) -> nn.Linear:
        """A linear head with random weights of the settings' seed."""
        return fresh_head(dim, self.classes, seed=self.settings.seed)


@final
@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to teach, and what decides its result beside the recipe, the data and the network."""

    make: Callable[[Desk], Pupil]
    settings: tuple[str, ...] = ()  # of the student's config
    targets: bool = False  # compares with the projected rows, or begins with their head
    in_space: bool = False  # its students answer with the k numbers of their targets
    features: bool = False  # compares with full-width rows, or with the full head's logits
