"""What the stages made: the taught teacher, stores, heads, students."""

from dataclasses import dataclass

from distill.findings.measured import Difference, Score, Validation
from distill.findings.nested import Nested
from distill.findings.record import Record


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
class FoldTaught(Record):
    """One teacher that learned all training examples but those of a fold."""

    rows: int  # of the fold
    accuracy: float  # on the fold, by its own head
    explained: float  # R² of the whole teacher's validation features, once aligned


@dataclass(frozen=True, kw_only=True)
class FoldsTaught(Record):
    """``train-teacher --folds``: the teachers that a held-out extraction runs."""

    fingerprint: str  # of the data
    folds: tuple[FoldTaught, ...]
    own_accuracy: float  # of the whole teacher on the training examples, which it learned
    seconds: float
    weights: str = ""  # digest of the whole teacher's, with whose features theirs are aligned
    layer: str = ""
    pooling: str = ""


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
    dtype: str = "float32"  # in which the features it reads are stored

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
class PrefixScore(Record):
    """A student's first numbers by themselves, read by a head of their own."""

    dim_out: int
    test: Score


@dataclass(frozen=True, kw_only=True)
class Student(Record):
    """One trained student: subspace-native, or a baseline at the same budget."""

    name: str  # resnet10t-gaussian-k128-s0, or …-labels, …-logits
    network: str
    method: str  # "subspace", "sketch", "labels" or "logits"
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
    prefixes: tuple[PrefixScore, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def native(self) -> bool:
        """Whether it learned projected rows; the others are baselines."""
        return self.method in ("subspace", "sketch")


@dataclass(frozen=True, kw_only=True)
class Students(Record):
    """``train-student``: the student and, if asked, its baselines."""

    students: tuple[Student, ...]
    nested: Nested | None = None  # what a student ``nested/…`` became
    notes: tuple[str, ...] = ()
