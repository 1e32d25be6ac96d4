"""What can go wrong with a nested network, one class for each thing a caller may handle."""

from students.errors import StudentError


class NestedError(StudentError):
    """Base of all errors of nested networks; the message is one line for the user."""


class RankError(NestedError):
    """A rank that a layer does not have, or ranks for layers that there are not."""


class BudgetError(NestedError):
    """A share of dense FLOPs outside (0, 1], or below what the network can reach."""


class SurgeryError(NestedError):
    """A layer that cannot be nested, or a pattern that finds none."""


class CalibrationError(NestedError):
    """Calibration data that say nothing: NaN, or too few rows."""


class OtherSurgeryError(NestedError):
    """A checkpoint of another surgery: other layers, ranks or shapes."""
