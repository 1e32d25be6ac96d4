"""The document as one self-contained HTML page: opens offline, loads nothing, runs nothing.

Every text is escaped by the template engine; only our own drawings, which escape what they
show, enter as markup. The page forbids itself scripts and every outside resource.
"""

import re
from pathlib import Path

from distill.reporting.layout import Document

TEMPLATE = Path(__file__).with_name("template.html")


def to_html(document: Document) -> str:
    """The whole page; ends with a newline."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["together"] = together
    return environment.get_template(TEMPLATE.name).render(document=document)


def together(text: str) -> str:
    """Keep a number and its unit on one line, and short formulas too."""
    return _APART.sub("\N{NO-BREAK SPACE}", text)


_APART = re.compile(r"(?<=\d) (?=[%kMG]\b|%|±)|(?<=±) (?=\d)|(?<=\bk) (?=[=≥])|(?<=[=≥]) (?=[C\d])")
