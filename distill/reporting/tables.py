"""Findings -> tables of text: the same cells for HTML, Markdown and the terminal.

Cells are plain text; whoever writes them into a format escapes them there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from distill.findings import Cost, Head, PrefixScore, Projected, Report, Student, Validation
from distill.reporting.derived import (
    REFERENCE,
    UNDECIDED,
    WITHIN,
    WORSE,
    Derived,
    HeadRow,
    StudentRow,
)
from distill.reporting.text import (
    NOTHING,
    count,
    difference,
    duration,
    factor,
    percent,
    percent_interval,
    plain,
    rounded,
    size,
    stored_kind,
    three_figures,
)

NAME_LENGTH = 48  # longest name in a table; longer ones are cut
Row = tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """One column: its heading, and whether it is read as words or as numbers."""

    label: str
    words: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text. ``marked`` rows are the references that others are compared with."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    marked: tuple[int, ...] = ()


def head_label(head: Head) -> str:
    """What a reader calls this head."""
    return plain(head.name, most=NAME_LENGTH) if head.kind else "full head"


def accuracy_table(report: Report, derived: Derived) -> Table:
    """One row a configuration: how far the features shrink, and what that does to accuracy."""
    columns = (
        Column("configuration", words=True),
        Column("factor"),
        Column("k"),
        Column("k/(C−1)"),
        Column("accuracy %"),
        Column("95 %"),
        Column("against full, points"),
        Column("within 1 point?", words=True),
        Column("macro-F1 %"),
        Column("worst class %", words=True),
    )
    rows = tuple(
        (
            head_label(head),
            factor(head.factor),
            count(head.dim_out),
            three_figures(row.dims_per_class),
            percent(head.test.accuracy),
            percent_interval(head.test.interval),
            difference(head.difference),
            verdict(row),
            percent(head.test.macro_f1),
            worst(head),
        )
        for head, row in zip(report.heads, derived.heads, strict=True)
    )
    return Table("accuracy", columns, rows, _full(report.heads))


def verdict(row: HeadRow | StudentRow) -> str:
    """The verdict in words."""
    words = {REFERENCE: NOTHING, WITHIN: "yes", WORSE: "no", UNDECIDED: "undecided"}
    needed = f" (≈ {rounded(row.rows_needed)} rows)" if row.rows_needed else ""
    return words[row.verdict] + needed


def worst(item: Head | Student | PrefixScore) -> str:
    """The worst class's accuracy and name."""
    name = plain(item.test.worst_class, most=24)
    return f"{percent(item.test.worst_class_accuracy)} ({name})"


def _full(heads: Sequence[Head]) -> tuple[int, ...]:
    return tuple(at for at, head in enumerate(heads) if not head.kind)


def seeds_table(derived: Derived) -> Table:
    """Spread over the seeds of the map."""
    columns = (
        Column("map", words=True),
        Column("factor"),
        Column("k"),
        Column("seeds"),
        Column("mean %"),
        Column("std"),
        Column("lowest %"),
        Column("highest %"),
    )
    rows = tuple(
        (
            plain(stored_kind(spread.kind, spread.dtype)),
            factor(spread.factor),
            count(spread.dim_out),
            count(spread.seeds),
            percent(spread.mean),
            f"{100 * spread.std:.2f}",
            percent(spread.low),
            percent(spread.high),
        )
        for spread in derived.spreads
    )
    return Table("seeds", columns, rows)


def projection_cost_table(report: Report, derived: Derived) -> Table:
    """What every map and head costs: stored, regenerated, kept apart, folded."""
    columns = (
        Column("configuration", words=True),
        Column("k"),
        Column("head parameters"),
        Column("map, stored"),
        Column("map, from its seed"),
        Column("multiply-adds, apart"),
        Column("folded"),
        Column("charged"),
        Column("share of full"),
        Column("embedding, per example"),
    )
    rows = tuple(
        (
            head_label(head),
            count(row.dim_out),
            count(row.head_parameters),
            size(row.map_bytes) if row.kind else NOTHING,
            _recipe(row),
            count(row.unfolded_multiply_adds),
            count(row.folded_multiply_adds),
            count(row.charged_multiply_adds),
            f"{percent(row.charged_multiply_adds / row.folded_multiply_adds)} %",
            size(row.embedding_bytes),
        )
        for head, row in zip(report.heads, derived.heads, strict=True)
    )
    return Table("projection-cost", columns, rows, _full(report.heads))


def _recipe(row: HeadRow) -> str:
    if not row.kind:
        return NOTHING
    return "not possible" if row.seed_bytes is None else size(row.seed_bytes)


def distances_table(report: Report) -> Table:
    """What each map did to distances, beside what theory says of it."""
    validated = [(made, made.validation) for made in report.projected if made.validation]
    columns = (
        Column("map", words=True),
        Column("k"),
        Column("mean ratio"),
        Column("std"),
        Column("expected std"),
        Column("1 %"),
        Column("99 %"),
        Column(_within_label([found for _, found in validated])),
        Column("lemma, all pairs", words=True),
        Column(_recall_label([found for _, found in validated])),
        Column("k-NN accuracy %"),
        Column("rank corr."),
        Column("checks", words=True),
    )
    rows = tuple(_distances_row(made, found) for made, found in validated if found)
    return Table("distances", columns, rows)


def _within_label(found: Sequence[Validation]) -> str:
    eps = {validation.distortion.eps for validation in found}
    return f"within 1 ± {three_figures(eps.pop())}" if len(eps) == 1 else "within 1 ± ε"


def _recall_label(found: Sequence[Validation]) -> str:
    k = {validation.k for validation in found}
    return f"recall@{k.pop()}" if len(k) == 1 else "recall@k"


def _distances_row(made: Projected, found: Validation) -> Row:
    spread, promise = found.distortion, found.promise
    return (
        plain(made.name, most=NAME_LENGTH),
        count(made.dim_out),
        f"{spread.mean:.3f}",
        f"{spread.std:.3f}",
        NOTHING if promise.expected_std is None else f"{promise.expected_std:.3f}",
        f"{spread.p01:.3f}",
        f"{spread.p99:.3f}",
        f"{percent(spread.within_eps)} %",
        lemma(found),
        f"{found.recall:.3f}",
        _knn(found),
        f"{found.rank_correlation:.3f}",
        checks(found),
    )


def lemma(found: Validation) -> str:
    """Say what the Johnson-Lindenstrauss lemma promises for all pairs at this k."""
    promised = found.promise.lemma_eps
    if promised is None:
        return "nothing (vacuous)"
    return f"1 ± {promised:.2f}"


def _knn(found: Validation) -> str:
    before, after = found.knn_accuracy_reference, found.knn_accuracy_candidate
    return NOTHING if before is None or after is None else f"{percent(before)} → {percent(after)}"


def checks(found: Validation) -> str:
    """How many checks were met, and whether that counts."""
    met = sum(check.passed for check in found.checks)
    if found.diagnostic_only:
        return "shown only"
    return "passed" if met == len(found.checks) else f"{len(found.checks) - met} failed"


METHODS = {
    "subspace": "projected features",
    "sketch": "projected features beside it",
    "labels": "labels only",
    "logits": "teacher's logits",
}


def students_table(report: Report, derived: Derived) -> Table:
    """One row a student: what it was taught, what it weighs, how well it does."""
    columns = (
        Column("student", words=True),
        Column("taught from", words=True),
        Column("k"),
        Column("k/(C−1)"),
        Column("parameters"),
        Column("smaller than teacher"),
        Column("accuracy %"),
        Column("95 %"),
        Column("against full head, points"),
        Column("within 1 point?", words=True),
        Column("agreement %"),
        Column("macro-F1 %"),
        Column("worst class %", words=True),
    )
    rows = tuple(
        (
            plain(student.name, most=NAME_LENGTH),
            METHODS.get(student.method, plain(student.method)),
            count(student.dim_out) if student.target else NOTHING,
            three_figures(row.dims_per_class) if student.target else NOTHING,
            count(student.parameters),
            NOTHING if row.times_smaller is None else factor(row.times_smaller),
            percent(student.test.accuracy),
            percent_interval(student.test.interval),
            difference(student.difference),
            verdict(row),
            NOTHING if student.agreement is None else percent(student.agreement),
            percent(student.test.macro_f1),
            worst(student),
        )
        for student, row in zip(report.students, derived.students, strict=True)
    )
    return Table("students", columns, rows)


def prefix_tables(report: Report) -> Iterator[Table]:
    """What a student's first numbers do by themselves; no table where nobody asked."""
    columns = (
        Column("student", words=True),
        Column("first numbers"),
        Column("accuracy %"),
        Column("95 %"),
        Column("worst class %", words=True),
    )
    rows = tuple(
        (
            plain(student.name, most=NAME_LENGTH),
            count(prefix.dim_out),
            percent(prefix.test.accuracy),
            percent_interval(prefix.test.interval),
            worst(prefix),
        )
        for student in report.students
        for prefix in student.prefixes
    )
    if rows:
        yield Table("prefixes", columns, rows)


def costs_table(report: Report) -> Table:
    """What was counted and timed: parameters, multiply-adds, bytes, latency at each batch size."""
    batches = sorted({timed.batch for cost in report.costs for timed in cost.latencies})
    columns = (
        Column("what", words=True),
        Column("role", words=True),
        Column("parameters"),
        Column("multiply-adds, one input"),
        Column("on disk"),
        *(Column(f"latency, batch {batch}") for batch in batches),
        Column("device", words=True),
    )
    rows = tuple(_cost_row(cost, batches) for cost in report.costs)
    return Table("costs", columns, rows)


def _cost_row(cost: Cost, batches: Sequence[int]) -> Row:
    timed = {latency.batch: latency for latency in cost.latencies}
    devices = sorted({latency.device for latency in cost.latencies})
    return (
        "full head" if cost.name == "full" else plain(cost.name, most=NAME_LENGTH),
        plain(cost.role),
        _or_nothing(cost.parameters, count),
        _or_nothing(cost.multiply_adds, count),
        _or_nothing(cost.bytes_on_disk, size),
        *(duration(timed[batch].seconds) if batch in timed else NOTHING for batch in batches),
        plain(", ".join(devices)) or NOTHING,
    )


def _or_nothing(value: int, show: Callable[[float], str]) -> str:
    """A count of 0 means that nobody counted."""
    return show(value) if value else NOTHING


def splits_table(report: Report) -> Table:
    """How many rows every split has."""
    columns = (Column("split", words=True), Column("rows"), Column("inputs skipped"))
    rows = tuple(
        (plain(split.split), count(split.rows), count(len(split.skipped)))
        for split in report.extracted.splits
    )
    return Table("splits", columns, rows)
