"""What a sweep found: every map at every width, what is recommended, and what the test says."""

from dataclasses import dataclass, field

from distill.findings.measured import Interval
from distill.findings.record import Record


@dataclass(frozen=True, kw_only=True)
class Band(Record):
    """A mean over seeds, and its 95 % interval by Student's t; None of a single seed."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Certificate(Record):
    """Whether a head is at most ``tolerance`` worse than the full one, by the test rows."""

    verdict: str  # within, worse, undecided or not tested
    tolerance: float
    loss: float  # accuracy of the full head minus that of this one, over rows and seeds
    low: float  # one-sided 95 % bounds of the loss: at least …
    high: float  # … and at most
    discordant: float  # share of rows that one of the two hits and the other misses
    rows: int
    seeds: int
    rows_needed: int | None  # to decide an undecided verdict, if all stays as it is


@dataclass(frozen=True, kw_only=True)
class Tested(Record):
    """The one look at the test rows: map and head fitted on the train split alone."""

    accuracy: Band
    interval: Interval  # Wilson, of the accuracy: over rows, not seeds
    macro_f1: Band
    worst_class_accuracy: Band
    calibration_error: Band
    certificate: Certificate | None  # None for the full head itself


@dataclass(frozen=True, kw_only=True)
class SweptMap(Record):
    """One kind of map at one width, over all seeds. The full head's kind is ``full``."""

    kind: str
    data_aware: bool
    seeded: bool  # False: the map is the same for every seed, and its bands come from the folds
    dim_out: int
    factor: float
    l2: float  # chosen by cross-validation
    temperature: float  # by which logits are divided before probabilities are told
    accuracy: Band  # this and the following: on rows held out by cross-validation
    loss: Band  # accuracy of the full head minus this one's, on the same rows
    loss_bound: float  # the loss is at most this, one-sided 95 % by the bootstrap
    holds: bool  # mean loss within the tolerance, here and at every larger width
    macro_f1: Band
    worst_class_accuracy: Band
    calibration_error: Band
    margin_kept: Band | None  # this and the following: None where they are not defined
    distortion: Band | None  # mean of squared distance after over before
    distortion_std: Band | None  # and its spread over pairs
    recall: Band | None
    separation: Band | None  # share of the class pairs' that is retained; by the training part
    multiply_adds: int  # folded: min(k (d + C), d C)
    stored: int  # numbers that map and head take
    tested: Tested | None = None


@dataclass(frozen=True, kw_only=True)
class Recommended(Record):
    """The smallest width that holds, of one kind or of all."""

    kind: str  # "full" where nothing smaller holds
    dim_out: int
    factor: float
    cost: int  # multiply-adds of the head, or k where the embedding is shipped
    stored: int
    loss: float  # cross-validated
    verdict: str  # of the test, beside it; it changes nothing
    why: str


@dataclass(frozen=True, kw_only=True)
class Diagnostics(Record):
    """What the data has, measured on the validation rows."""

    rows: int
    figures: dict[str, float | None] = field(default_factory=dict)  # by name; None: not defined


@dataclass(frozen=True, kw_only=True)
class Sweep(Record):
    """``sweep``: how far these features can be compressed, by which map, and how sure that is."""

    fingerprint: str  # of the stores and settings behind every cell: its folder's name
    stores: dict[str, str]  # digest of each split
    dim: int
    classes: int
    rows: dict[str, int]  # of each split
    tolerance: float
    shipped: str  # "head" or "embedding"
    seeds: int
    folds: int
    l2: tuple[float, ...]
    break_even: float  # k* = d C / (d + C)
    best: Recommended
    families: tuple[Recommended, ...]
    full: SweptMap
    maps: tuple[SweptMap, ...]
    diagnostics: Diagnostics | None
    verdict: str  # compressible, only by a data-aware map, or not at this tolerance
    sentence: str  # and why
    cells: int
    seconds: float  # of this call: less where cells were there already
    notes: tuple[str, ...] = ()
