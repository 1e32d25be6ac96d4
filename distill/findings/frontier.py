"""What a frontier found: accuracy at every budget, of a nested network and of its rivals."""

from dataclasses import dataclass

from distill.findings.measured import Difference, Interval, Latency
from distill.findings.record import Record
from distill.findings.swept import Band, Certificate

LONGER = "longer"  # the rival that is the dense network, taught as all others


@dataclass(frozen=True, kw_only=True)
class FrontierPoint(Record):
    """One way to run one kind of network. All of it on the test rows unless it says otherwise."""

    budget: float  # share of dense FLOPs that was asked for …
    share: float  # … and that it takes
    parameters: int  # of a network that can do no more than this
    trained: bool  # whether these very ranks or widths were trained
    accuracy: Band  # over seeds
    interval: Interval  # Wilson's, over rows, of the mean over seeds
    difference: Difference  # to the dense network, over seeds and rows
    behind: Difference | None  # to the nested network at no more FLOPs; None of it and of dense
    validation_accuracy: float  # mean over seeds
    latencies: tuple[Latency, ...] = ()  # medians; none where they were not measured


@dataclass(frozen=True, kw_only=True)
class Falls(Record):
    """Where accuracy falls although the budget rises: mean over seeds, point to point."""

    count: int
    of: int  # steps from one point to the next
    largest: float  # 0.0 where none falls
    share: float  # of dense FLOPs at the upper end of the largest fall; 1.0 where none falls


@dataclass(frozen=True, kw_only=True)
class FrontierCurve(Record):
    """One kind of network at all its budgets, from the smallest up."""

    name: str
    about: str
    seeds: int
    trainings: int  # of networks; 0: nothing was trained
    updates: int  # of each training
    points: tuple[FrontierPoint, ...]
    area: Band | None  # mean accuracy over budgets from the common floor to 1, over seeds
    behind: Difference | None  # its area less that of the nested network, over seeds and rows
    falls: Falls | None  # None of a single point


@dataclass(frozen=True, kw_only=True)
class Picked(Record):
    """The smallest budget at which the nested network is at most ``tolerance`` worse than dense.

    Chosen on validation: from the largest budget down, each shown with 95 % confidence, up to the
    first that is not. None where even the largest is not.
    """

    tolerance: float
    budget: float | None
    share: float | None
    validation: Certificate  # of what was picked, or of the largest budget
    test: Certificate  # of the same budget; it changes nothing
    estimated: float | None  # share that the mean loss on validation alone would pick


@dataclass(frozen=True, kw_only=True)
class Frontier(Record):
    """``frontier``: what accuracy costs, in shares of the dense network's FLOPs and in time."""

    nested: str  # name of the nested network
    teacher: str
    measured_at: str  # the input whose FLOPs are counted
    dense_flops: int  # of one such input, attention and head included
    classes: int
    rows: dict[str, int]  # of each split
    floor: float  # where areas begin: the largest of the smallest shares
    device: str
    threads: int  # of the timings
    dense: FrontierPoint
    curves: tuple[FrontierCurve, ...]  # the nested network first
    picked: Picked
    seconds: float  # of all trainings
    network: str = ""  # what the nested network was made with, as its own record has it
    notes: tuple[str, ...] = ()
