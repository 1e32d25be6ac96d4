"""The report of a run as a document: its key figures and its sections, in their order."""

from collections.abc import Iterator

from distill.findings import Report
from distill.reporting import plots, sizes, tables
from distill.reporting.comparisons import comparison_sections
from distill.reporting.derived import TOLERANCE, Derived, smallest_within
from distill.reporting.frontiers import frontier_sections
from distill.reporting.layout import Document, KeyFigure, Section
from distill.reporting.sweeps import sweep_sections
from distill.reporting.tables import Table
from distill.reporting.text import (
    count,
    duration,
    factor,
    percent,
    percent_interval,
    plain,
    points,
    rounded,
    size,
    teacher,
)
from distill.reporting.words import full_head, words


def compose(report: Report, derived: Derived) -> Document:
    """The document of a report."""
    return Document(
        title=plain(report.title) or "Subspace distillation",
        subtitle=_subtitle(report),
        figures=tuple(_key_figures(report, derived)),
        words=words(report, derived),
        sections=tuple(_sections(report, derived)),
    )


def _subtitle(report: Report) -> str:
    rows = next((head.test.rows for head in report.heads), 0)
    classes = f" · {count(report.classes)} classes" if report.classes else ""
    tested = f" · {count(rows)} test rows" if rows else ""
    return (
        f"{teacher(report.teacher)} · {plain(report.dataset)} · "
        f"{count(report.extracted.dim)} features{classes}{tested}"
    )


def _key_figures(report: Report, derived: Derived) -> Iterator[KeyFigure]:
    full = full_head(report)
    if full is not None:
        yield KeyFigure(
            f"{percent(full.test.accuracy)} %",
            "full head",
            f"{count(full.dim_out)} features; 95 %: {percent_interval(full.test.interval)}",
        )
    row = smallest_within(derived)
    if row is not None:
        yield KeyFigure(
            factor(row.factor),
            "smaller features, at most one point worse",
            f"k = {count(row.dim_out)}, {plain(row.kind, most=24)}; shown at 95 %",
        )
    elif any(row.kind for row in derived.heads):
        yield KeyFigure("none", "shown to be within one point", "see the verdicts below")
    for student in report.students:
        if student.native:
            change = f", {points(student.difference.value)} points" if student.difference else ""
            yield KeyFigure(
                f"{percent(student.test.accuracy)} %",
                "student",
                f"{rounded(student.parameters)} parameters{change}",
            )
            if student.teacher_parameters and student.parameters:
                smaller = student.teacher_parameters / student.parameters
                yield KeyFigure(
                    factor(smaller),
                    "fewer parameters than the teacher",
                    f"of {rounded(student.teacher_parameters)}",
                )
            break


def _sections(report: Report, derived: Derived) -> Iterator[Section]:
    if report.heads:
        yield _accuracy(report, derived)
    if report.sweep is not None:
        yield from sweep_sections(report.sweep)
    if report.heads:
        yield _projection_cost(report, derived)
    if any(made.validation for made in report.projected):
        yield _distances(report)
    if report.students:
        yield _students(report, derived)
    if report.comparison is not None:
        yield from comparison_sections(report.comparison)
    if report.frontier is not None:
        yield from frontier_sections(report.frontier)
    if report.costs:
        yield _costs(report)
    yield _making(report)


def _accuracy(report: Report, derived: Derived) -> Section:
    plot = plots.accuracy_plot(report)
    return Section(
        "Accuracy against compression",
        (
            "Every row is a linear head on features of k numbers. The difference to the full head "
            "is paired: both heads answered the same test rows. “Within 1 point?” says yes when "
            f"the whole 95 % interval lies above {points(-TOLERANCE)} points, no when it lies "
            "below, and undecided otherwise, with the number of test rows that would settle it.",
        ),
        tables.accuracy_table(report, derived),
        (plot,) if plot else (),
        caption="Right of the line k = C − 1 the features have fewer dimensions than the classes "
        "need at most: there a result says something."
        if plots.reaches_the_classes(report)
        else "Bars and band are 95 % intervals over the test rows.",
        more=(tables.seeds_table(derived),) if derived.spreads else (),
    )


def _projection_cost(report: Report, derived: Derived) -> Section:
    dim, classes = derived.dim, report.classes
    return Section(
        "What the projection costs",
        (
            f"A map of d × k = {count(dim)} × k stands before every compressed head. It can be "
            "stored (float32), or drawn again from its seed (16 bytes: a seed of 8 and two widths "
            "of 4; the code is not counted), but it must be applied either way: d k + k C "
            "multiply-adds while map and head are kept apart, d C once they are multiplied into "
            "one matrix. A classifier is charged the smaller number, whatever the factor.",
            f"Break-even: k* = d C / (d + C) = {derived.break_even:.1f} for C = {count(classes)}. "
            "The last column is what k itself saves, and only where features are stored or sent.",
        ),
        tables.projection_cost_table(report, derived),
    )


def _distances(report: Report) -> Section:
    return Section(
        "What the maps do to distances",
        (
            "For sampled pairs of rows: squared distance after the map over squared distance "
            "before; 1 is perfect. The expected spread is theory for random pairs, and one map "
            "moves all its pairs together. Recall is the share of true nearest neighbours that "
            "are still nearest neighbours.",
        ),
        tables.distances_table(report),
        tuple(plots.distortion_plots(report)),
        small=True,
        caption="Ratio of squared distances over sampled pairs; shaded: within 1 ± ε; mean ± std.",
        points=tuple(_checks(report)),
    )


def _checks(report: Report) -> Iterator[str]:
    for made in report.projected:
        found = made.validation
        for check in found.checks if found else ():
            if found and not check.passed:
                state = "missed, shown only" if found.diagnostic_only else "failed"
                yield f"{plain(made.name)}: {plain(check.name)} {state}: {plain(check.detail)}"


def _students(report: Report, derived: Derived) -> Section:
    plot = sizes.size_plot(report)
    return Section(
        "Students",
        (
            "A student is a small network that emits the k numbers itself and needs no map. "
            "Agreement is the share of test rows on which it says what the teacher's full head "
            "says. Baselines are the same body with a head of its own instead of the k numbers, "
            "trained for the same number of steps, without the projected features.",
        ),
        tables.students_table(report, derived),
        (plot,) if plot else (),
        caption="Compressed heads stand at the teacher's size: they still need its whole backbone. "
        "Marks of about one size are drawn side by side.",
        more=tuple(tables.prefix_tables(report)),
        points=tuple(
            f"{plain(student.name)}: {plain(note)}"
            for student in report.students
            for note in student.notes
        ),
    )


def _costs(report: Report) -> Section:
    return Section(
        "Size and speed, measured",
        (
            "Latency is the median time of a call on this machine. Teacher and students start "
            "from prepared inputs; heads start from features that are already there, k of them.",
        ),
        tables.costs_table(report),
        points=tuple(_cost_notes(report)),
    )


def _cost_notes(report: Report) -> Iterator[str]:
    """Every note once, with the names it is said of, or none where it is said of all."""
    said: dict[str, list[str]] = {}
    for cost in report.costs:
        for note in cost.notes:
            said.setdefault(plain(note), []).append(plain(cost.name))
    for note, names in said.items():
        yield note if len(names) == len(report.costs) else f"{', '.join(names)}: {note}"


def _making(report: Report) -> Section:
    return Section(
        "How this was made",
        tuple(_history(report)),
        tables.splits_table(report),
        points=tuple(plain(note) for note in report.notes),
        more=(_environment(report),) if report.environment else (),
    )


def _history(report: Report) -> Iterator[str]:
    taught, extracted = report.taught, report.extracted
    if taught is not None:
        yield (
            f"The teacher {teacher(taught.teacher)} ({rounded(taught.parameters)} parameters) was "
            f"taught the task for {taught.epochs} epochs ({duration(taught.seconds)}); epoch "
            f"{taught.best_epoch} was best on validation "
            f"({percent(taught.validation_accuracy)} %). Its own head gets "
            f"{percent(taught.test.accuracy)} % on test."
        )
    source = "imported" if report.dataset.startswith("import:") else "extracted"
    yield (
        f"Features of {count(extracted.dim)} {plain(extracted.dtype)} numbers were {source} "
        f"({size(extracted.bytes)} on disk)."
    )
    if report.heads:
        yield (
            "Epochs, l2 and all other choices were made on the validation split; the test split "
            "was read for the final figures only."
        )


def _environment(report: Report) -> Table:
    columns = (tables.Column("setting", words=True), tables.Column("value", words=True))
    rows = tuple((plain(name), plain(shown, most=120)) for name, shown in _flat(report.environment))
    return Table("environment", columns, rows)


def _flat(settings: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested tables as dotted names, in order of name."""
    for name in sorted(settings):
        value = settings[name]
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", str(value)
