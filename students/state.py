"""How far a training is, and what it found when it is done."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from students.recipe import Evaluation


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The network now holds the weights of the best epoch."""

    epochs: int  # planned
    last_epoch: int  # fewer where nothing better came for long enough
    best_epoch: int  # from 1
    best: Evaluation
    history: tuple[dict[str, Any], ...]  # one entry an epoch, as in metrics.jsonl
    seconds: float  # over all the runs it took
    rows_per_second: float  # while training, without evaluation
    resumed: bool
    notes: tuple[str, ...] = ()


@dataclass
class State:
    """How far a training is: what a checkpoint holds beside tensors."""

    epoch: int = 1
    step: int = 0  # within the epoch
    loss_sum: float = 0.0
    train_seconds: float = 0.0  # of this epoch so far
    seconds: float = 0.0
    best_epoch: int = 0
    best: Evaluation | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    micro_batch: int = 0  # rows at a time, once memory ran out; 0: whole batches
    skipped: int = 0  # steps in a row whose float16 gradient was too large
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "State":
        """Undo ``to_json``."""
        best = data["best"]
        return cls(**{**data, "best": None if best is None else Evaluation(**best)})
