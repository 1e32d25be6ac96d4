"""What a comparison of ways to teach found: every trial, what was chosen, and how each one did."""

from dataclasses import dataclass, field
from typing import Any

from distill.findings.measured import Interval
from distill.findings.record import Record
from distill.findings.swept import Band


@dataclass(frozen=True, kw_only=True)
class Trial(Record):
    """One try of a random search, by the validation rows alone."""

    number: int
    settings: dict[str, Any]
    accuracy: float
    loss: float | None  # cross-entropy; None where the training diverged
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Chosen(Record):
    """The settings of the best trial of one way to teach."""

    name: str
    trial: int
    settings: dict[str, Any]
    accuracy: float  # on validation
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Fixed(Record):
    """Everything that is fixed before a test row is read."""

    made_by: dict[str, Any]  # what the trials were made with, beside their own settings
    chosen: tuple[Chosen, ...]


@dataclass(frozen=True, kw_only=True)
class SeedScore(Record):
    """One fresh seed with the chosen settings, on the test rows."""

    seed: int
    accuracy: float
    agreement: float  # with the teacher's full head
    recall: float | None  # @10 of the teacher's neighbours; None for what is not in its space
    steps: float | None  # to 95 % of the final validation accuracy; None without steps
    seconds: float | None
    loss: float | None  # of training, in the last epoch
    trained_seconds: float


@dataclass(frozen=True, kw_only=True)
class Shipped(Record):
    """What the student of one way costs, and how its seeds lie to one another."""

    stored_bytes: int  # of a training example, all its views
    parameters: int  # with matrices that follow one another made one where that is fewer
    multiply_adds: int  # likewise, for one input
    latency: float  # seconds of a call with one input
    barrier: float | None  # of the validation loss between the first two seeds
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Versus(Record):
    """Accuracy less the reference's, on the same seeds and test rows."""

    against: str
    value: float
    interval: Interval
    p: float
    adjusted: float  # Holm's, over all ways that were tested
    verdict: str  # ahead, behind, or no difference shown


@dataclass(frozen=True, kw_only=True)
class Way(Record):
    """One way to teach: what was chosen, and what came of it. None: it got no fresh seeds."""

    name: str
    about: str
    chosen: Chosen
    seeds: tuple[SeedScore, ...] = ()
    accuracy: Band | None = None  # over the seeds, as the following
    agreement: Band | None = None
    recall: Band | None = None
    steps: Band | None = None
    seconds: Band | None = None
    loss: Band | None = None
    worst_class: str = ""
    worst_class_accuracy: float | None = None  # of all seeds together
    shipped: Shipped | None = None
    versus: Versus | None = None  # None for the reference itself


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """``compare-students``: ways to teach one network, side by side."""

    reference: str
    target: str  # name of the projected store
    digest: str  # of its training rows
    network: str
    classes: int
    rows: dict[str, int]  # of each split
    epochs: int
    trials: int
    seeds: int
    teacher_accuracy: float  # of the full head on test
    ways: tuple[Way, ...]
    seconds: float  # of all trainings
    notes: tuple[str, ...] = field(default=())  # what was left out, and why
