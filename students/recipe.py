"""How to train, and when one epoch is better than another."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from students.errors import RecipeError

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train: linear warm-up, cosine to zero, clipped gradients."""

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adamw"  # or "sgd", with momentum 0.9
    weight_decay: float = 0.0  # not on what has one axis, as biases and norms have
    warmup: float = 0.0  # share of all steps
    clip: float = 10.0  # largest norm of the whole gradient; 0 does not clip
    seed: int = 0
    precision: str = "auto"  # bfloat16 where there is a GPU, float32 elsewhere
    compile: bool = False  # the network, by torch.compile
    ema: float = 0.0  # decay of the averaged weights that are evaluated and kept; 0: none
    patience: int = 0  # epochs without a better one before it stops; 0: never
    micro_batch: int = 0  # rows at a time, of which a batch is made; 0: the whole batch

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise RecipeError(
                f"epochs and batch_size must be at least 1, got {self.epochs} and {self.batch_size}"
            )
        if not self.learning_rate > 0 or self.weight_decay < 0 or self.clip < 0:
            raise RecipeError(
                f"learning_rate must be above 0, weight_decay and clip not below, got "
                f"{self.learning_rate}, {self.weight_decay} and {self.clip}"
            )
        if self.optimizer not in OPTIMIZERS:
            raise RecipeError(f"optimizer is adamw or sgd, got {self.optimizer!r}")
        if not 0 <= self.warmup < 1:
            raise RecipeError(f"warmup is a share of the steps, in [0, 1), got {self.warmup}")
        if self.precision not in PRECISIONS:
            raise RecipeError(
                f"precision is one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            )
        if not 0 <= self.ema < 1:
            raise RecipeError(f"ema is a decay in [0, 1), got {self.ema}")
        if self.patience < 0 or self.micro_batch < 0:
            raise RecipeError(
                f"patience and micro_batch must not be below 0, got {self.patience} and "
                f"{self.micro_batch}"
            )

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of ``step`` (from 0) among ``steps``."""
        warm = round(self.warmup * steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1, steps - warm)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Of the validation rows. The better of two has the higher accuracy, then the lower loss.

    ``measures`` are told and recorded beside the two, by name; they choose nothing.
    """

    accuracy: float
    loss: float
    measures: Mapping[str, float] = field(default_factory=dict)

    def beats(self, other: "Evaluation | None") -> bool:
        """Strictly better: of equal epochs the first stays the best."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)
