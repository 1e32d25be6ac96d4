"""Findings -> files people read: report.json, report.md, report.html and the compression table."""

from distill.reporting.comparison_tables import told_settings
from distill.reporting.comparisons import verdicts
from distill.reporting.derived import Derived, derive
from distill.reporting.frontiers import shown
from distill.reporting.language import told as told_language
from distill.reporting.sweeps import recommendation
from distill.reporting.terminal import compression_table
from distill.reporting.write import (
    REPORT_FORMAT,
    ReportPaths,
    load_report,
    write_comparison,
    write_frontier,
    write_language,
    write_report,
    write_sweep,
)

__all__ = [
    "REPORT_FORMAT",
    "Derived",
    "ReportPaths",
    "compression_table",
    "derive",
    "load_report",
    "recommendation",
    "shown",
    "told_language",
    "told_settings",
    "verdicts",
    "write_comparison",
    "write_frontier",
    "write_language",
    "write_report",
    "write_sweep",
]
