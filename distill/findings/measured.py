"""What was measured: scores, differences, distances, costs."""

from dataclasses import dataclass

from distill.findings.record import Record


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
