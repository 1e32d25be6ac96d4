"""What was shipped: a student as a file of another runtime, and what that cost."""

from dataclasses import dataclass

from distill.findings.measured import Difference
from distill.findings.record import Record


@dataclass(frozen=True, kw_only=True)
class Quantised(Record):
    """What eight-bit weights and arithmetic cost on the validation rows."""

    rows: int
    float32: float  # accuracy before
    int8: float  # and after
    difference: Difference  # of the two, paired
    agreement: float  # share of the rows on which both predict the same
    calibration_rows: int  # training rows that set the ranges; 0: none


@dataclass(frozen=True, kw_only=True)
class ExportedStudent(Record):
    """``export``: a student in a file of another format, checked against the student."""

    student: str
    path: str
    format: str  # "onnx" or "torch-export"
    precision: str  # "float32" or "int8"
    bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dim_out: int
    classes: int
    batches: tuple[int, ...]  # at which it was checked
    largest_difference: float  # of the float32 file from PyTorch, relative to the largest number
    quantised: Quantised | None
    notes: tuple[str, ...] = ()
