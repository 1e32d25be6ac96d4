"""What is told about a whole run: its report and its plan."""

from dataclasses import dataclass, field
from typing import Any

from distill.findings.compared import Comparison
from distill.findings.frontier import Frontier
from distill.findings.made import Extracted, Head, Projected, Student, Taught
from distill.findings.measured import Cost
from distill.findings.record import Record
from distill.findings.swept import Sweep


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """Everything the report says; ``report.json`` is this record."""

    format: int
    title: str
    dataset: str
    data_note: str  # "" or why this data set is too easy to conclude from
    teacher: str
    classes: int
    taught: Taught | None
    extracted: Extracted
    projected: tuple[Projected, ...]
    heads: tuple[Head, ...]
    students: tuple[Student, ...]
    costs: tuple[Cost, ...]
    sweep: Sweep | None = None
    comparison: Comparison | None = None
    frontier: Frontier | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what the stages said: dropped heads, small classes, ...
    derived: dict[str, Any] = field(default_factory=dict)  # arithmetic on the rest, when written


@dataclass(frozen=True, kw_only=True)
class Reported(Record):
    """``report`` and ``run``: the report, and where its files lie."""

    report: Report
    html: str
    markdown: str
    json: str
    table: str  # the compression table as plain text


@dataclass(frozen=True, kw_only=True)
class PlannedStage(Record):
    """One stage of a dry run."""

    stage: str
    what: str
    done: bool
    seconds: float | None  # None where it cannot be known before
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan(Record):
    """``--dry-run``: what would be done, how long, how much disk."""

    stages: tuple[PlannedStage, ...]
    free_bytes: int
