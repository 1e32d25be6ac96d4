"""What was seen by looking: stores, damage, predictions, the machine."""

from dataclasses import dataclass, field
from typing import Any

from distill.findings.made import Head, Student
from distill.findings.measured import Check
from distill.findings.record import Record


@dataclass(frozen=True, kw_only=True)
class DamageFound(Record):
    """One thing that is not as it was written."""

    store: str
    file: str
    reason: str
    chunk: int | None = None
    rows: tuple[int, ...] = ()  # first and one past the last; () when no rows are hit


@dataclass(frozen=True, kw_only=True)
class Verified(Record):
    """``verify``: whether every byte is sound."""

    path: str
    stores: int  # in which a split is finished
    files: int  # that were read: those of finished splits
    damages: tuple[DamageFound, ...]
    unfinished: tuple[str, ...] = ()  # splits that were begun only: no data yet, so not damage

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.damages


@dataclass(frozen=True, kw_only=True)
class StoreInfo(Record):
    """What one store holds."""

    path: str
    split: str
    state: str  # "complete", or what is wrong with it
    rows: int
    dim: int
    dtype: str
    logits: int
    classes: int
    views: int
    bytes: int
    made_by: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Info(Record):
    """``info``: what a run folder or a store holds."""

    path: str
    title: str  # "" for a lone store
    teacher: str  # "" while none was taught
    stores: tuple[StoreInfo, ...]
    heads: tuple[Head, ...] = ()
    students: tuple[Student, ...] = ()
    report: str = ""  # path of report.html
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Prediction(Record):
    """One input's class."""

    input: str
    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Predictions(Record):
    """``predict``: a class for every input."""

    student: str
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, kw_only=True)
class Exported(Record):
    """``export-store``: one split in another format."""

    path: str
    format: str
    rows: int
    dim: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Doctor(Record):
    """``doctor``: what is there, what is missing and how to get it."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing that is needed is missing."""
        return all(check.passed for check in self.checks)
