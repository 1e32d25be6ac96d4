"""What a frontier of a language model found: perplexity at every budget, beside its rivals'.

Surprise is -log p of the next token in nats, the mean over windows; perplexity is its exponential.
"""

import math
from dataclasses import dataclass

from distill.findings.measured import Interval, Latency
from distill.findings.record import Record
from distill.findings.swept import Band


@dataclass(frozen=True, kw_only=True)
class LanguagePoint(Record):
    """One way to run one kind of network, on the test windows."""

    budget: float  # share of dense FLOPs that was asked for …
    share: float  # … and that it takes
    parameters: int  # of a network that can do no more than this
    trained: bool  # whether these very ranks or widths were trained
    surprise: Band  # over seeds
    interval: Interval  # of the mean surprise, over windows and seeds
    divergence: float  # KL(dense ‖ this), nats a token
    accuracy: float  # share of next tokens that are the likeliest
    agreement: float  # share of places where dense has the same likeliest token
    rise: Interval  # of its surprise over dense's, over seeds and windows in pairs
    behind: Interval | None  # of it over the nested network's at no more FLOPs; None of that itself
    latencies: tuple[Latency, ...] = ()  # medians; none where they were not measured

    @property
    def perplexity(self) -> float:
        """The exponential of the mean surprise."""
        return math.exp(min(self.surprise.mean, 700.0))  # a float holds no more


@dataclass(frozen=True, kw_only=True)
class LanguageCurve(Record):
    """One kind of network at all its budgets, from the smallest up."""

    name: str
    about: str
    seeds: int
    trainings: int  # of networks; 0: nothing was trained
    updates: int  # of each training
    points: tuple[LanguagePoint, ...]


@dataclass(frozen=True, kw_only=True)
class LanguagePick(Record):
    """The smallest budget whose perplexity is at most ``tolerance`` above dense's.

    Chosen on validation: from the largest budget down, each shown with 95 % confidence, up to the
    first that is not. None where even the largest is not.
    """

    tolerance: float  # share of dense's perplexity
    share: float | None
    validation: Interval  # rise of surprise there, or at the largest budget
    test: Interval


@dataclass(frozen=True, kw_only=True)
class LanguageFrontier(Record):
    """``nest-lm``: perplexity against FLOPs and time. The first curve is the nested network's."""

    name: str
    model: str
    data: str
    tokens: int  # of a window
    vocabulary: int
    rows: dict[str, int]  # windows of each split
    layers: int  # nested ones
    dense_flops: int  # of one window
    device: str
    threads: int  # that were timed; 0 where nothing was
    dense: LanguagePoint
    curves: tuple[LanguageCurve, ...]
    picked: LanguagePick
    surgery: str
    seconds: float  # of all trainings
    notes: tuple[str, ...] = ()
