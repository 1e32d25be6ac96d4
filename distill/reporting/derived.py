"""Arithmetic on findings: what a map and a head really cost, and which verdict the data allows.

A map P of d x k and a head W of k x C are both linear, so the pair is one d x C matrix: a
classifier that starts from the teacher's d features never needs more than min(k (d + C), d C)
multiply-adds, and keeping P and W apart is the cheaper form only below k* = d C / (d + C).
A small k saves by itself only where the k numbers, not the d, are stored or shipped.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from distill.findings import Difference, Head, Record, Report, Student

TOLERANCE = 0.01  # "as good as the full head" means at most one point worse
NUMBER_BYTES = 4  # maps are kept in float32
STORED_BYTES = {"float16": 2, "float32": 4}  # of a feature, by the type it is stored in
SEED_BYTES = 16  # an 8-byte seed and two 4-byte widths; the code that draws from it is not counted

REFERENCE, WITHIN, WORSE, UNDECIDED = "reference", "within", "worse", "undecided"


@dataclass(frozen=True, kw_only=True)
class HeadRow(Record):
    """One head and the map before it. The full head is the row whose ``kind`` is empty."""

    name: str
    kind: str
    seed: int
    dim_out: int
    dtype: str  # in which the features are stored
    factor: float
    dims_per_class: float  # k / (C - 1); parity is expected from 1 on
    head_parameters: int  # k C weights and C biases
    map_bytes: int  # the matrix in float32; 0 for the full head, which has none
    seed_bytes: int | None  # the map as its recipe; None where data made it, 0 without a map
    unfolded_multiply_adds: int  # d k + k C, map and head kept apart
    folded_multiply_adds: int  # d C, map and head multiplied out
    charged_multiply_adds: int  # the smaller of the two
    embedding_bytes: int  # of one example's stored features
    verdict: str  # reference, within, worse or undecided: at most one point below the full head?
    rows_needed: int | None  # test rows to settle an undecided verdict, if this difference stays


@dataclass(frozen=True, kw_only=True)
class StudentRow(Record):
    """One student beside its teacher."""

    name: str
    method: str
    dims_per_class: float
    times_smaller: float | None  # teacher's parameters over the student's; None when unknown
    verdict: str
    rows_needed: int | None


@dataclass(frozen=True, kw_only=True)
class SeedSpread(Record):
    """Accuracy over several seeds of one map at one k, its rows stored in one type."""

    kind: str
    dim_out: int
    dtype: str
    factor: float
    seeds: int
    mean: float
    std: float  # sample standard deviation
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Derived(Record):
    """All of it."""

    dim: int
    break_even: float  # k*: above it, map and head kept apart cost more than the full head
    heads: tuple[HeadRow, ...]
    students: tuple[StudentRow, ...]
    spreads: tuple[SeedSpread, ...]


def derive(report: Report) -> Derived:
    """Everything the report says beyond its findings."""
    dim, classes = report.extracted.dim, report.classes
    data_aware = {made.name for made in report.projected if made.data_aware}
    return Derived(
        dim=dim,
        break_even=break_even(dim, classes),
        heads=tuple(head_row(head, data_aware=head.name in data_aware) for head in report.heads),
        students=tuple(student_row(student) for student in report.students),
        spreads=seed_spreads(report.heads),
    )


def break_even(dim: int, classes: int) -> float:
    """k* = d C / (d + C), where k (d + C) and d C multiply-adds are equally many."""
    return dim * classes / (dim + classes)


def dims_per_class(dim_out: int, classes: int) -> float:
    """Divide k by C - 1, the most dimensions that logits of C classes can need."""
    return dim_out / max(classes - 1, 1)


def head_row(head: Head, *, data_aware: bool) -> HeadRow:
    """What one head costs, with the map before it."""
    d, k, c = head.dim_in, head.dim_out, head.classes
    mapped = head.kind != ""
    folded = d * c
    unfolded = k * (d + c) if mapped else folded
    verdict, rows_needed = judge(head.difference, head.test.rows)
    return HeadRow(
        name=head.name,
        kind=head.kind,
        seed=head.seed,
        dim_out=k,
        dtype=head.dtype,
        factor=head.factor,
        dims_per_class=dims_per_class(k, c),
        head_parameters=c * (k + 1),
        map_bytes=d * k * NUMBER_BYTES if mapped else 0,
        seed_bytes=_recipe_bytes(mapped=mapped, data_aware=data_aware),
        unfolded_multiply_adds=unfolded,
        folded_multiply_adds=folded,
        charged_multiply_adds=min(unfolded, folded),
        embedding_bytes=k * STORED_BYTES[head.dtype],
        verdict=verdict,
        rows_needed=rows_needed,
    )


def _recipe_bytes(*, mapped: bool, data_aware: bool) -> int | None:
    if not mapped:
        return 0
    return None if data_aware else SEED_BYTES


def student_row(student: Student) -> StudentRow:
    """One student beside its teacher."""
    verdict, rows_needed = judge(student.difference, student.test.rows)
    known = student.teacher_parameters > 0 and student.parameters > 0
    return StudentRow(
        name=student.name,
        method=student.method,
        dims_per_class=dims_per_class(student.dim_out, student.classes),
        times_smaller=student.teacher_parameters / student.parameters if known else None,
        verdict=verdict,
        rows_needed=rows_needed,
    )


def judge(difference: Difference | None, rows: int) -> tuple[str, int | None]:
    """Whether it is at most one point worse, as far as the paired interval can tell.

    The interval's half width shrinks with the square root of the rows, so an undecided
    verdict comes with the number of rows at which this same difference would settle it. That
    number is None where the difference is the tolerance itself, which no number settles.
    """
    if difference is None:
        return REFERENCE, None
    low, high = difference.interval.low, difference.interval.high
    if low >= -TOLERANCE:
        return WITHIN, None
    if high < -TOLERANCE:
        return WORSE, None
    margin = abs(difference.value + TOLERANCE)
    if margin < 1e-9:  # equal but for rounding
        return UNDECIDED, None
    reach = difference.value - low if difference.value > -TOLERANCE else high - difference.value
    return UNDECIDED, max(rows + 1, math.ceil(rows * (reach / margin) ** 2))


def seed_spreads(heads: Iterable[Head]) -> tuple[SeedSpread, ...]:
    """Mean and spread over the seeds of each map, widest first; maps of one seed have none."""
    groups: dict[tuple[str, int, str], list[Head]] = {}
    for head in heads:
        if head.kind:
            groups.setdefault((head.kind, head.dim_out, head.dtype), []).append(head)
    return tuple(
        _spread(members)
        for _, members in sorted(groups.items(), key=_by_kind_and_width)
        if len(members) > 1
    )


def _by_kind_and_width(group: tuple[tuple[str, int, str], list[Head]]) -> tuple[str, int, str]:
    (kind, dim_out, dtype), _ = group
    return kind, -dim_out, dtype


def _spread(members: list[Head]) -> SeedSpread:
    accuracies = [head.test.accuracy for head in members]
    return SeedSpread(
        kind=members[0].kind,
        dim_out=members[0].dim_out,
        dtype=members[0].dtype,
        factor=members[0].factor,
        seeds=len(members),
        mean=statistics.fmean(accuracies),
        std=statistics.stdev(accuracies),
        low=min(accuracies),
        high=max(accuracies),
    )


def smallest_within(derived: Derived) -> HeadRow | None:
    """Find the smallest k whose heads are all within one point, whatever the seed of the map.

    All seeds of one map count together: the best of several draws would be a lucky one.
    """
    groups: dict[tuple[str, int, str], list[HeadRow]] = {}
    for row in derived.heads:
        if row.kind:
            groups.setdefault((row.kind, row.dim_out, row.dtype), []).append(row)
    sound = [rows[0] for rows in groups.values() if all(row.verdict == WITHIN for row in rows)]
    return min(sound, key=lambda row: row.dim_out, default=None)


def with_derived(report: Report) -> Report:
    """The same report with its derived figures filled in afresh."""
    derived: dict[str, Any] = json.loads(json.dumps(derive(report).to_json()))  # as read back
    return dataclasses.replace(report, derived=derived)
