"""What each stage found, as small frozen records that go to JSON and back.

The report reads these and nothing else: no arrays, no stores. A share is in [0, 1], a time in
seconds, a size in bytes unless the name says otherwise.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_args, get_origin, get_type_hints


class FindingError(ValueError):
    """A file does not hold the finding it should."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A frozen record that goes to JSON and back."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild the record; unknown or missing keys raise ``FindingError``."""
        hints = get_type_hints(cls)
        unknown = sorted(set(data) - set(hints))
        if unknown:
            raise FindingError(f"{cls.__name__} has no {unknown[0]!r}")
        try:
            return cls(**{name: _revive(hints[name], value) for name, value in data.items()})
        except TypeError as error:
            raise FindingError(f"{cls.__name__}: {error}") from error

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.partial")
        scratch.write_text(json.dumps(self.to_json(), indent=2, sort_keys=True) + "\n")
        os.replace(scratch, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record back; ``FindingError`` names the file that cannot be read."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (json.JSONDecodeError, FindingError, AttributeError) as error:
            raise FindingError(f"{path} does not hold a {cls.__name__}: {error}") from error


def _revive(hint: Any, value: Any) -> Any:
    """JSON knows lists and dicts; records hold tuples and records."""
    if value is None:
        return None
    arguments = get_args(hint)
    record = next(
        (t for t in (hint, *arguments) if isinstance(t, type) and issubclass(t, Record)), None
    )
    if get_origin(hint) is tuple:
        inner = arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
        return tuple(_revive(inner, item) if inner else item for item in value)
    if record is not None:
        return record.from_json(value)
    return value


@dataclass(frozen=True, kw_only=True)
class Interval(Record):
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Score(Record):
    """How well predictions on the test rows agree with the labels."""

    rows: int
    accuracy: float
    interval: Interval  # Wilson, of the accuracy
    macro_f1: float
    worst_class: str
    worst_class_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Difference(Record):
    """Accuracy of one classifier minus that of another on the same rows, paired."""

    against: str
    value: float  # in accuracy, so -0.02 is two points worse
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Taught(Record):
    """``train-teacher``: the teacher was taught the task."""

    teacher: str
    classes: int
    dim: int
    parameters: int
    epochs: int
    best_epoch: int
    validation_accuracy: float
    test: Score
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExtractedSplit(Record):
    """One split of a store."""

    split: str
    rows: int
    skipped: tuple[str, ...] = ()  # inputs that could not be read, with --skip-bad


@dataclass(frozen=True, kw_only=True)
class Extracted(Record):
    """``extract``: the teacher's features are in a store."""

    teacher: str
    dataset: str
    dim: int
    logits: int
    dtype: str
    splits: tuple[ExtractedSplit, ...]
    bytes: int
    seconds: float
    rows_written: int  # by this call: 0 when everything was there already
    rows_per_second: float
    notes: tuple[str, ...] = ()
    data_note: str = ""  # why nothing can be concluded from these data; "" for most


@dataclass(frozen=True, kw_only=True)
class Distortion(Record):
    """Squared distance after the map over squared distance before, over sampled pairs."""

    pairs: int
    mean: float
    std: float
    p01: float
    p50: float
    p99: float
    eps: float
    within_eps: float  # share of the pairs with |ratio - 1| <= eps
    histogram_edges: tuple[float, ...] = ()
    histogram_counts: tuple[int, ...] = ()
    identical: int = 0  # sampled pairs of equal rows, which have no ratio and are left out


@dataclass(frozen=True, kw_only=True)
class Promise(Record):
    """What theory says of the map's distortion, beside which the measurement stands."""

    lemma_dim: int  # k the lemma asks for at eps and this many rows
    lemma_eps: float | None  # the eps it promises at this k; None where it promises nothing
    expected_std: float | None  # of the ratio over random pairs; None for a data-aware map
    shared_shift: float | None  # by which one map moves all pairs together, one std
    participation_ratio: float


@dataclass(frozen=True, kw_only=True)
class Check(Record):
    """One pass-or-fail test of a validation, with the figure and the limit it was held to."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Validation(Record):
    """``validate``: how far a candidate store keeps the geometry of a reference store."""

    reference: str
    candidate: str
    kind: str  # of the projection; "" when the candidate is not a projection
    dim_in: int
    dim_out: int
    seed: int
    split: str
    rows: int
    queries: int
    k: int  # neighbours
    distortion: Distortion
    promise: Promise
    recall: float  # recall@k of the reference's neighbours
    knn_accuracy_reference: float | None  # None without labels
    knn_accuracy_candidate: float | None
    rank_correlation: float  # Spearman, of the sampled distances
    checks: tuple[Check, ...]
    diagnostic_only: bool  # a data-aware map is not failed by distance measures
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check that counts was met."""
        return self.diagnostic_only or all(check.passed for check in self.checks)


@dataclass(frozen=True, kw_only=True)
class Projected(Record):
    """``project``: one projected store."""

    name: str  # gaussian-k128-s0
    kind: str
    dim_in: int
    dim_out: int
    seed: int
    factor_asked: float
    factor: float  # achieved: dim_in / dim_out
    rows: int
    bytes: int
    validation: Validation | None
    data_aware: bool = False  # computed from features: no seed alone gives it back


@dataclass(frozen=True, kw_only=True)
class Projections(Record):
    """``project``: all stores made by one pass over the features."""

    projected: tuple[Projected, ...]
    seconds: float
    rows_written: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Head(Record):
    """One linear classifier on (projected) features."""

    name: str  # "full" or the name of the projected store
    kind: str  # of the projection; "" for the full head
    dim_in: int  # width of the teacher's features
    dim_out: int  # width the head reads
    classes: int
    seed: int
    l2: float
    validation_accuracy: float
    test: Score
    difference: Difference | None  # to the full head, paired; None for the full head itself
    train_rows: int
    converged: bool
    seconds: float

    @property
    def factor(self) -> float:
        """Compression of the features, dim_in / dim_out."""
        return self.dim_in / self.dim_out


@dataclass(frozen=True, kw_only=True)
class Heads(Record):
    """``train-head``: the full head first, then every projected one."""

    heads: tuple[Head, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Student(Record):
    """One trained student: subspace-native, or a baseline at the same budget."""

    name: str  # resnet10t-gaussian-k128-s0, or …-labels, …-logits
    network: str
    method: str  # "subspace", "labels" or "logits"
    target: str  # projected store it was taught from; "" for the baselines without one
    dim_out: int
    classes: int
    parameters: int  # network and head
    teacher_parameters: int  # backbone and full head
    epochs: int
    best_epoch: int
    validation_accuracy: float
    test: Score
    difference: Difference | None  # to the teacher's full head, paired
    agreement: float | None  # share of test rows on which it predicts what the full head predicts
    seed: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Students(Record):
    """``train-student``: the student and, if asked, its baselines."""

    students: tuple[Student, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Latency(Record):
    """Seconds a call, median over repeats, at one batch size."""

    batch: int
    seconds: float
    device: str


@dataclass(frozen=True, kw_only=True)
class Cost(Record):
    """What one whole classifier costs to ship and to run."""

    name: str
    role: str  # "teacher", "student" or "head"
    parameters: int
    multiply_adds: int  # for one input
    bytes_on_disk: int
    latencies: tuple[Latency, ...] = ()
    notes: tuple[str, ...] = ()  # what was fed, what the count leaves out


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
    stores: int
    files: int
    damages: tuple[DamageFound, ...]
    unfinished: tuple[str, ...] = ()  # stores that were begun only: no data yet, so not damage

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
