"""What ``nest`` made: a network of several budgets, and how it does at those it was taught at."""

from dataclasses import dataclass

from distill.findings.record import Record


@dataclass(frozen=True, kw_only=True)
class NestedPoint(Record):
    """One budget that was taught, on the validation rows."""

    share: float  # of dense FLOPs
    accuracy: float
    loss: float
    untaught: float  # accuracy of the same ranks before anything was taught


@dataclass(frozen=True, kw_only=True)
class Nested(Record):
    """``nest``: one network, any budget. Of the test rows nothing was read."""

    name: str
    of: str  # "teacher", or the student's name
    layers: int  # nested ones
    parameters: int
    dense_parameters: int
    dense_flops: int
    measured_at: str  # the input whose FLOPs are counted
    dense_accuracy: float  # on validation, of the network as it was
    points: tuple[NestedPoint, ...]  # from the dearest down
    budgets: int  # points of its path, taught or not
    floor: float  # the smallest budget there is
    epochs: int
    best_epoch: int
    updates: int
    seed: int
    surgery: str  # what was replaced, and what each costs
    seconds: float
    notes: tuple[str, ...] = ()
