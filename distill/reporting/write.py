"""Reports, sweeps, comparisons, frontiers -> .json, .md and .html files, each whole or not."""

from dataclasses import dataclass
from pathlib import Path

from distill.findings import Comparison, FindingError, Frontier, LanguageFrontier, Report, Sweep
from distill.reporting.comparisons import comparison_document
from distill.reporting.derived import derive, with_derived
from distill.reporting.document import compose
from distill.reporting.frontiers import frontier_document
from distill.reporting.language import language_document
from distill.reporting.markdown import to_markdown
from distill.reporting.page import to_html
from distill.reporting.sweeps import sweep_document
from distill.whole import whole

REPORT_FORMAT = 1  # of report.json


@dataclass(frozen=True)
class ReportPaths:
    """Where the three files lie."""

    json: Path
    markdown: Path
    html: Path


def write_report(report: Report, folder: Path) -> ReportPaths:
    """Write the three files. Equal reports give equal bytes; the page is written last."""
    complete = with_derived(report)
    document = compose(complete, derive(complete))
    paths = ReportPaths(folder / "report.json", folder / "report.md", folder / "report.html")
    complete.save(paths.json)
    _write(paths.markdown, to_markdown(document))
    _write(paths.html, to_html(document))
    return paths


def write_sweep(found: Sweep, folder: Path, *, title: str) -> None:
    """Write ``sweep.md`` and, last, ``sweep.html``."""
    document = sweep_document(found, title)
    _write(folder / "sweep.md", to_markdown(document))
    _write(folder / "sweep.html", to_html(document))


def write_comparison(found: Comparison, folder: Path, *, title: str) -> None:
    """Write ``compare.md`` and, last, ``compare.html``."""
    document = comparison_document(found, title)
    _write(folder / "compare.md", to_markdown(document))
    _write(folder / "compare.html", to_html(document))


def write_frontier(found: Frontier, folder: Path, *, title: str) -> None:
    """Write ``frontier.md`` and, last, ``frontier.html``."""
    document = frontier_document(found, title)
    _write(folder / "frontier.md", to_markdown(document))
    _write(folder / "frontier.html", to_html(document))


def write_language(found: LanguageFrontier, folder: Path, *, title: str) -> None:
    """Write ``language.md`` and, last, ``language.html``."""
    document = language_document(found, title)
    _write(folder / "language.md", to_markdown(document))
    _write(folder / "language.html", to_html(document))


def load_report(path: Path) -> Report:
    """Read ``report.json`` back; ``FindingError`` where it is none or of another format."""
    report = Report.load(path)
    if report.format != REPORT_FORMAT:
        raise FindingError(
            f"{path} has report format {report.format}, this version reads {REPORT_FORMAT}; "
            "run distill report again"
        )
    return report


def _write(path: Path, text: str) -> None:
    with whole(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")
