"""What a report is made of: title, key figures, sentences, sections of prose, drawing and table.

Markdown and HTML render the same document, so they cannot say different things.
"""

from dataclasses import dataclass

from distill.reporting.tables import Table


@dataclass(frozen=True)
class Words:
    """Three lists of sentences."""

    warnings: tuple[str, ...]
    shows: tuple[str, ...]
    limits: tuple[str, ...]


@dataclass(frozen=True)
class KeyFigure:
    """One number read first."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True)
class Section:
    """A heading, what one must know to read the table, drawings, the table, what to add."""

    heading: str
    prose: tuple[str, ...]
    table: Table | None = None
    drawings: tuple[str, ...] = ()  # SVG, for formats that show it
    small: bool = False  # drawings that stand side by side
    caption: str = ""  # of the drawings
    more: tuple[Table, ...] = ()
    points: tuple[str, ...] = ()  # small print under the tables


@dataclass(frozen=True)
class Document:
    """Everything a reader is shown."""

    title: str
    subtitle: str
    figures: tuple[KeyFigure, ...]
    words: Words
    sections: tuple[Section, ...]
    kicker: str = "Compression report"  # above the title
    footer: str = (
        "The figures behind this page are in report.json beside it, its tables also in report.md."
    )
