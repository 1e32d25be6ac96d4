"""What can be wrong with a teacher, one class per thing a caller may handle."""

import difflib
from collections.abc import Iterable


class TeacherError(ValueError):
    """A teacher cannot be built or used as asked; the message is one line."""


class UnknownTeacherError(TeacherError):
    """No teacher has that name."""


class WeightsError(TeacherError):
    """Weights are missing, do not fit, or need more than plain tensors to load."""


class DeviceError(TeacherError):
    """The device asked for is not on this machine."""


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """``; did you mean 'x'?`` for the closest known name, or nothing when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {prefix + close[0]!r}?" if close else ""


def one_line(error: BaseException, *, most: int = 200) -> str:
    """The first line of a foreign error, with what follows its colon; ``most`` characters of it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = " ".join(part.strip() for part in lines[: 1 + lines[0].endswith(":")])
    return line if len(line) <= most else line[: most - 1] + "…"
