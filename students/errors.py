"""What can go wrong with a student, one class for each thing a caller may handle."""

import difflib
from collections.abc import Iterable


class StudentError(ValueError):
    """Base of all errors of this package; the message is one line for the user."""


class UnknownStudentError(StudentError):
    """No student network has this name."""


class StudentWeightsError(StudentError):
    """A weights file is missing, is not safe to read, or does not fit the network."""


class UnknownLossError(StudentError):
    """No loss has this name."""


class RecipeError(StudentError):
    """A training recipe that cannot be followed."""


class CheckpointError(StudentError):
    """A checkpoint cannot be read, or belongs to other settings."""


class HeadError(StudentError):
    """A head cannot be fitted on this data, or a file does not hold the head it should."""


class DivergedError(StudentError):
    """The loss became NaN or infinite."""


class MemoryShortError(StudentError):
    """A single row is too much for the memory."""


MOST_NAMED = 30


def first_line(error: BaseException) -> str:
    """The first line of a library's error, with what follows its colon; else the error's name."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(part.strip() for part in lines[: 1 + lines[0].endswith(":")])[:200]


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"``, or what is known when nothing is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    # hundreds of names are no help
    return f"; known: {', '.join(names)}" if len(names) <= MOST_NAMED else ""
