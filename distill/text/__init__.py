"""Findings as text for people: what a command prints when it is done."""

from typing import Any

from distill.text import judged, made, told
from distill.text.words import duration, percent, size, table

__all__ = ["as_text", "duration", "percent", "size", "table"]

_WRITERS = {**made.WRITERS, **judged.WRITERS, **told.WRITERS}


def as_text(result: Any) -> str:
    """Lines for a terminal; raises ``KeyError`` for something that is no finding."""
    return _WRITERS[type(result)](result)
