"""The compression table as plain text, at most 100 columns wide, for the end of a run."""

from collections.abc import Sequence

from distill.findings import Head, Projected, Report, Student
from distill.reporting.derived import Derived, HeadRow, derive
from distill.reporting.tables import verdict
from distill.reporting.text import (
    count,
    percent,
    plain,
    points,
    rounded,
    teacher,
    three_figures,
)
from distill.reporting.words import fewer

WIDTH = 100
LEAST_NAME = 8
GAP = "  "
DISTANCES = ("", "factor", "k", "mean ratio", "std", "recall", "checks")
HEADINGS = ("", "factor", "k", "k/(C-1)", "acc. %", "95 %", "vs full", "95 %", "in 1 pt?")


def compression_table(report: Report) -> str:
    """Heads, then students: factor, k, accuracy and the paired difference to the full head.

    Of features without labels, what the maps do to distances.
    """
    derived = derive(report)
    rows: list[tuple[str, ...]] = [HEADINGS]
    rows += [_head(h, row) for h, row in zip(report.heads, derived.heads, strict=True)]
    rows += [_student(student, derived, at) for at, student in enumerate(report.students)]
    if not report.heads:
        rows = [DISTANCES, *(_distances(made) for made in report.projected)]
    lines = [plain(_caption(report), most=WIDTH), "", *_aligned(rows), "", *_footer(report)]
    return "\n".join(lines)


def _caption(report: Report) -> str:
    rows = next((head.test.rows for head in report.heads), 0)
    classes = f", {count(report.classes)} classes, {count(rows)} test rows" if rows else ""
    return (
        f"{plain(report.title)}: {teacher(report.teacher)}, "
        f"{count(report.extracted.dim)} features{classes}"
    )


def _distances(made: Projected) -> tuple[str, ...]:
    found = made.validation
    measured: tuple[str, ...] = ("-", "-", "-", "not validated")
    if found is not None:
        verdict = "shown only" if found.diagnostic_only else "passed" if found.passed else "failed"
        figures = (found.distortion.mean, found.distortion.std, found.recall)
        measured = (*(three_figures(figure) for figure in figures), verdict)
    return (plain(made.name), three_figures(made.factor), str(made.dim_out), *measured)


def _head(head: Head, row: HeadRow) -> tuple[str, ...]:
    name = plain(head.name) if head.kind else "full head"
    return (
        name,
        three_figures(head.factor),
        str(head.dim_out),
        three_figures(row.dims_per_class),
        *_figures(head),
        verdict(row).split(" (")[0],
    )


def _student(student: Student, derived: Derived, at: int) -> tuple[str, ...]:
    row = derived.students[at]
    taught = {"labels": "student, labels", "logits": "student, logits"}
    width = ("", "", "")  # of a baseline, which has no numbers of a map
    if student.target and student.dim_out:
        width = (
            three_figures(derived.dim / student.dim_out),
            str(student.dim_out),
            three_figures(row.dims_per_class),
        )
    return (
        taught.get(student.method, "student"),
        *width,
        *_figures(student),
        verdict(row).split(" (")[0],
    )


def _figures(found: Head | Student) -> tuple[str, str, str, str]:
    """Plain signs only: not every terminal and log file knows the typographic ones."""
    interval, paired = found.test.interval, found.difference
    about = f"{percent(interval.low)}-{percent(interval.high)}"
    if paired is None:
        return percent(found.test.accuracy), about, "", ""
    reach = f"{_ascii(points(paired.interval.low))} to {_ascii(points(paired.interval.high))}"
    return percent(found.test.accuracy), about, _ascii(points(paired.value)), reach


def _ascii(shown: str) -> str:
    return shown.replace("−", "-")


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell, names cut to fit; first and last read from the left."""
    rows = [tuple(cell.replace("—", "-") for cell in row) for row in rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    others = sum(widths[1:]) + len(GAP) * (len(widths) - 1)
    widths[0] = min(widths[0], max(WIDTH - others, LEAST_NAME))
    rows = [(plain(row[0], most=widths[0]), *row[1:]) for row in rows]
    last = len(widths) - 1
    return [
        GAP.join(
            cell.ljust(width) if at in {0, last} else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _footer(report: Report) -> list[str]:
    lines = [
        f"student: {rounded(s.parameters)} parameters, "
        f"{fewer(s).replace('×', 'x')} than the teacher's {rounded(s.teacher_parameters)}"
        for s in report.students
        if s.native and s.parameters and s.teacher_parameters
    ]
    failed = [made for made in report.projected if made.validation and not made.validation.passed]
    lines += [plain(f"WARNING: {made.name} failed its validation", most=WIDTH) for made in failed]
    return lines
