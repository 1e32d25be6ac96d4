"""What a stage says when what it was handed cannot be worked on, and how errors are worded."""

import difflib
from collections.abc import Iterable


class StageError(ValueError):
    """The stores or settings do not allow this stage; the message is one line for the user."""


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, or nothing; ``cutoff`` as difflib's."""
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=cutoff)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of a library's error, or its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
