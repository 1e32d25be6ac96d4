"""What can be wrong with data: one line each, saying what, where and what to do."""

import errno
import tokenize
import zipfile
import zlib
from collections.abc import Iterable

DAMAGED = (  # what readers of files raise over bytes that are not what they should be
    ValueError, EOFError, StopIteration, RuntimeError, tokenize.TokenError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


class DataError(ValueError):
    """The data cannot be used as it is."""


class UnknownDatasetError(DataError):
    """No data set goes by that name."""


SKIP_HINT = "mend it, or leave such rows out with --skip-bad (data.skip_bad = true)"


class BadInputError(DataError):
    """One example cannot be read; file and row are named. ``skip_bad`` leaves such rows out.

    ``problem`` is what is wrong: all there is to say where the row is left out. As an error it
    ends in ``advice``.
    """

    def __init__(self, problem: str, advice: str = SKIP_HINT) -> None:
        super().__init__(problem, advice)  # both: a worker's pickle makes it anew from these
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.problem}; {self.advice}"


def some(names: Iterable[str], most: int = 8) -> str:
    """Join names to a list that stays one readable line however long it is."""
    listed = list(names)
    left = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {left} more" if left > 0 else "")


def damage(error: Exception) -> str:
    """What a reader of files says of damaged bytes, in one line; "" where it says anything else.

    Arrow's complaints are an ``OSError`` without a number, and a place that is none in the file
    is an invalid argument; any other number is the system's and the disk's.
    """
    told = error.errno in (None, errno.EINVAL) if isinstance(error, OSError) else None
    if told is False or not (told or isinstance(error, DAMAGED)):
        return ""
    return (str(error) or "it ends too early").splitlines()[0][:200]
