"""The document as Markdown (GitHub's), with every sign from data made harmless."""

import re
from collections.abc import Iterator

from distill.reporting.layout import Document, Section
from distill.reporting.tables import Table

# what Markdown reads as markup; an underscore inside a word is none, and names are full of them
_MARKUP = re.compile(r"[\\`*\[\]{}<>|~$#&!]|(?<!\w)_|_(?!\w)")


def escaped(text: str) -> str:
    """Text that shows as itself: no tags, links, emphasis, table cells or entities begin in it."""
    return _MARKUP.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), text)


# entities where some readers of tables ignore the backslash
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"}


def to_markdown(document: Document) -> str:
    """The whole report; ends with a newline."""
    return "\n".join(_lines(document)).rstrip("\n") + "\n"


def _lines(document: Document) -> Iterator[str]:
    yield from (f"# {escaped(document.title)}", "", escaped(document.subtitle), "")
    yield from _list("Read this first", document.words.warnings)
    for figure in document.figures:
        value, label, detail = map(escaped, (figure.value, figure.label, figure.detail))
        yield f"- **{value}** {label} ({detail})"
    yield ""
    yield from _list("What this shows", document.words.shows)
    yield from _list("What it does not show", document.words.limits)
    for section in document.sections:
        yield from _section(section)


def _list(heading: str, sentences: tuple[str, ...]) -> Iterator[str]:
    if sentences:
        yield from (f"## {heading}", "")
        yield from (f"- {escaped(sentence)}" for sentence in sentences)
        yield ""


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {escaped(section.heading)}", "")
    for sentence in section.prose:
        yield from (_paragraph(sentence), "")
    if section.table is not None:
        yield from _table(section.table)
    for table in section.more:
        yield from _table(table)
    if section.points:
        yield from (f"- {escaped(point)}" for point in section.points)
        yield ""


def _paragraph(text: str) -> str:
    """A paragraph that begins like a list or heading stays a paragraph."""
    return re.sub(r"^(\d+)([.)])|^([-+=])", r"\1\\\2\3", escaped(text))


def _table(table: Table) -> Iterator[str]:
    yield _row(tuple(column.label for column in table.columns))
    yield "|" + "|".join(":---" if column.words else "---:" for column in table.columns) + "|"
    for number, row in enumerate(table.rows):
        yield _row(row, strong=number in table.marked)
    yield ""


def _row(cells: tuple[str, ...], *, strong: bool = False) -> str:
    shown = [escaped(cell) for cell in cells]
    if strong and shown[0]:
        shown[0] = f"**{shown[0]}**"
    return "| " + " | ".join(shown) + " |"
