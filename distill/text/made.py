"""What the stages made, in lines for a terminal."""

from collections.abc import Callable
from typing import Any

from distill import findings as f
from distill.text.words import difference, duration, percent, size, size_beside, table


def _taught(found: f.Taught) -> str:
    return "\n".join(
        [
            f"{found.teacher}: {percent(found.test.accuracy)} on {found.test.rows} test rows "
            f"(95 % interval {percent(found.test.interval.low)} to "
            f"{percent(found.test.interval.high)}), epoch {found.best_epoch} of {found.epochs}, "
            f"{duration(found.seconds)}",
            *found.notes,
        ]
    )


def _nested(found: f.Nested) -> str:
    rows = [
        (percent(one.share), percent(one.accuracy), percent(one.untaught)) for one in found.points
    ]
    return "\n".join(
        [
            f"{found.name}: {found.layers} layers of {found.of} nested, "
            f"{found.dense_parameters:,} parameters are {found.parameters:,}; at "
            f"{found.measured_at} its {found.budgets} budgets go from "
            f"{percent(found.points[0].share)} to {percent(found.floor)} of "
            f"{found.dense_flops:,} FLOPs",
            f"on validation the network as it was: {percent(found.dense_accuracy)}; epoch "
            f"{found.best_epoch} of {found.epochs}, {duration(found.seconds)}",
            table(("budget", "accuracy", "before"), rows),
            *found.notes,
        ]
    )


def _extracted(found: f.Extracted) -> str:
    imported = found.dataset.startswith("import:")  # the teacher's name says of what
    made = found.teacher if imported else f"{found.teacher} on {found.dataset}"
    rows = ", ".join(f"{split.split} {split.rows}" for split in found.splits)
    skipped = [line for split in found.splits for line in split.skipped]
    return "\n".join(
        [
            f"{made}: {rows} rows of {found.dim} {found.dtype}"
            + (f" and {found.logits} logits" if found.logits else "")
            + f", {size(found.bytes)}, {duration(found.seconds)}",
            *found.notes,
            *(f"left out: {line}" for line in skipped),
        ]
    )


def _projections(found: f.Projections) -> str:
    if not found.projected:
        return "\n".join(("nothing to project", *found.notes))
    return table(
        ("store", "factor", "k", "on disk", "mean ratio", "std", "recall", "checks"),
        [_projected_row(one) for one in found.projected],
    )


def _projected_row(one: f.Projected) -> tuple[str, ...]:
    checked = one.validation
    start = (one.name, f"{one.factor:.4g}", str(one.dim_out), size(one.bytes))
    if checked is None:
        return (*start, "", "", "", "not run")
    return (
        *start,
        f"{checked.distortion.mean:.3f}",
        f"{checked.distortion.std:.3f}",
        f"{checked.recall:.3f}",
        _verdict(checked),
    )


def _verdict(found: f.Validation) -> str:
    if found.diagnostic_only:
        return "diagnostic"
    failed = [check.name for check in found.checks if not check.passed]
    return "passed" if not failed else "FAILED: " + ", ".join(failed)


def _validation(found: f.Validation) -> str:
    d, p = found.distortion, found.promise
    lemma = "promises nothing" if p.lemma_eps is None else f"promises eps = {p.lemma_eps:.2f}"
    lines = [
        f"{found.candidate} against {found.reference}: {found.rows} rows of {found.split}",
        f"squared distance, after / before: mean {d.mean:.4f}, std {d.std:.4f}, 1/50/99 % at "
        f"{d.p01:.3f}/{d.p50:.3f}/{d.p99:.3f}, {percent(d.within_eps)} within 1 ± {d.eps:g}",
        f"the lemma {lemma} at k = {found.dim_out} and asks for k = {p.lemma_dim} at "
        f"eps = {d.eps:g}",
        f"recall@{found.k} {found.recall:.4f}, rank correlation {found.rank_correlation:.4f}",
    ]
    if found.knn_accuracy_reference is not None and found.knn_accuracy_candidate is not None:
        lines.append(
            f"{found.k}-NN accuracy {percent(found.knn_accuracy_reference)} before, "
            f"{percent(found.knn_accuracy_candidate)} after"
        )
    lines += [
        f"{'ok' if check.passed else 'FAILED'}: {check.name} ({check.detail})"
        for check in found.checks
    ]
    return "\n".join(lines)


def heads(found: f.Heads) -> str:
    """A line each head, the full one first."""
    rows = [
        (
            head.name,
            f"{head.factor:.4g}",
            str(head.dim_out),
            percent(head.test.accuracy),
            f"{100 * head.test.interval.low:.1f} to {100 * head.test.interval.high:.1f}",
            difference(head.difference),
        )
        for head in found.heads
    ]
    header = ("head", "factor", "k", "test accuracy", "95 % interval", "points to full")
    return "\n".join([table(header, rows), *found.notes])


def _sweep(found: f.Sweep) -> str:
    from distill.reporting import recommendation

    rows = [
        (
            one.kind,
            str(one.dim_out) if one.dim_out < found.dim else "none",
            f"{one.factor:.4g}",
            f"{one.cost:,}",
            f"{100 * one.loss:+.2f}" if one.dim_out < found.dim else "",
            one.verdict,
        )
        for one in found.families
    ]
    cost = "multiply-adds" if found.shipped == "head" else "numbers"
    header = ("map", "smallest k", "factor", cost, "points lost", "on test")
    full = f"full head: {percent(found.full.accuracy.mean)} in cross-validation"
    if found.full.tested is not None:
        full += f", {percent(found.full.tested.accuracy.mean)} on test"
    return "\n".join([recommendation(found), "", table(header, rows), "", full])


def students(found: f.Students) -> str:
    """A line each student, its baselines below it, and what it was nested into."""
    rows = [
        (
            one.name,
            one.method,
            percent(one.test.accuracy),
            difference(one.difference),
            f"{one.parameters:,}",
            size_beside(one.parameters, one.teacher_parameters),
            duration(one.seconds),
        )
        for one in found.students
    ]
    header = (
        "student",
        "taught by",
        "test accuracy",
        "points to full",
        "parameters",
        "of teacher",
        "time",
    )
    nested = [] if found.nested is None else [_nested(found.nested)]
    return "\n".join([table(header, rows), *found.notes, *nested])


WRITERS: dict[type, Callable[[Any], str]] = {
    f.Taught: _taught,
    f.Nested: _nested,
    f.Extracted: _extracted,
    f.Projections: _projections,
    f.Validation: _validation,
    f.Heads: heads,
    f.Sweep: _sweep,
    f.Students: students,
}
