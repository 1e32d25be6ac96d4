"""Findings as text for people: what a command prints when it is done."""

from collections.abc import Callable, Sequence
from typing import Any

from distill import findings as f


def as_text(result: Any) -> str:
    """Lines for a terminal; raises ``KeyError`` for something that is no finding."""
    return _WRITERS[type(result)](result)


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def percent(share: float) -> str:
    """A share as per cent."""
    return f"{100 * share:.2f} %"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


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


def _heads(found: f.Heads) -> str:
    rows = [
        (
            head.name,
            f"{head.factor:.4g}",
            str(head.dim_out),
            percent(head.test.accuracy),
            f"{100 * head.test.interval.low:.1f} to {100 * head.test.interval.high:.1f}",
            _difference(head.difference),
        )
        for head in found.heads
    ]
    header = ("head", "factor", "k", "test accuracy", "95 % interval", "points to full")
    return "\n".join([table(header, rows), *found.notes])


def _difference(found: f.Difference | None) -> str:
    if found is None:
        return ""
    interval = found.interval
    return f"{100 * found.value:+.2f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


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


def _size_beside(parameters: int, teachers: int) -> str:
    """``1/12`` of the teacher's, or ``3x`` of them; nothing where those are unknown."""
    if not teachers:
        return ""
    if parameters <= teachers:
        return f"1/{teachers / parameters:.0f}"
    return f"{parameters / teachers:.1f}x"


def _students(found: f.Students) -> str:
    rows = [
        (
            one.name,
            one.method,
            percent(one.test.accuracy),
            _difference(one.difference),
            f"{one.parameters:,}",
            _size_beside(one.parameters, one.teacher_parameters),
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


def _fixed(found: f.Fixed) -> str:
    from distill.reporting import told_settings

    rows = [
        (one.name, percent(one.accuracy), f"trial {one.trial}", told_settings(one))
        for one in found.chosen
    ]
    told = table(("taught by", "validation", "chosen", "settings"), rows)
    return (
        f"{told}\nno student has answered a test row yet; the same command without --search-only "
        "goes on"
    )


def _frontier(found: f.Frontier) -> str:
    from distill.reporting import shown

    rows = []
    for name, points in [("dense", (found.dense,)), *((c.name, c.points) for c in found.curves)]:
        for point in points:
            times = (f"{one.seconds * 1e3:.1f} ms" for one in point.latencies)
            rows.append(
                (
                    name,
                    f"{100 * point.share:.1f}",
                    percent(point.accuracy.mean),
                    f"{100 * point.difference.value:+.2f}",
                    "yes" if point.trained else "no",
                    ", ".join(times),
                )
            )
    header = ("network", "FLOPs %", "accuracy", "against dense", "trained", "time")
    return "\n".join([table(header, rows), "", *shown(found), *found.notes])


def _language(found: f.LanguageFrontier) -> str:
    from distill.reporting import told_language

    rows = [
        (
            name,
            f"{100 * point.share:.1f}",
            f"{point.perplexity:.4g}",
            f"{point.divergence:.3f}",
            "yes" if point.trained else "no",
            ", ".join(f"{one.seconds * 1e3:.1f} ms" for one in point.latencies),
        )
        for name, points in [("dense", (found.dense,)), *((c.name, c.points) for c in found.curves)]
        for point in points
    ]
    header = ("network", "FLOPs %", "perplexity", "KL to dense", "trained", "time")
    return "\n".join([table(header, rows), "", *told_language(found), *found.notes])


def _comparison(found: f.Comparison) -> str:
    from distill.reporting import verdicts

    rows = [
        (
            way.name,
            percent(way.accuracy.mean) if way.accuracy else "",
            _over_seeds(way.accuracy),
            _versus(way.versus),
            f"{way.versus.adjusted:.3f}" if way.versus else "",
            way.versus.verdict if way.versus else "",
            size(way.shipped.stored_bytes) if way.shipped else "",
        )
        for way in found.ways
    ]
    header = ("taught by", "test accuracy", "95 %, seeds", "points", "p", "", "stored an example")
    teacher = f"teacher: {percent(found.teacher_accuracy)}"
    return "\n".join([table(header, rows), "", teacher, *verdicts(found), *found.notes])


def _over_seeds(band: f.Band | None) -> str:
    if band is None or band.interval is None:
        return ""
    low, high = max(band.interval.low, 0.0), min(band.interval.high, 1.0)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _versus(found: f.Versus | None) -> str:
    if found is None:
        return ""
    low, high = found.interval.low, found.interval.high
    return f"{100 * found.value:+.2f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _reported(found: f.Reported) -> str:
    note = [found.report.data_note] if found.report.data_note else []
    return "\n".join([found.table, *note, f"report: {found.html}"])


def _exported(found: f.Exported) -> str:
    return f"{found.path}: {found.rows} rows of {found.dim}, {size(found.bytes)}"


def _exported_student(found: f.ExportedStudent) -> str:
    batches = ", ".join(map(str, found.batches[:-1])) + f" and {found.batches[-1]}"
    lines = [
        f"{found.path}: {found.student} in {found.precision}, {size(found.bytes)}",
        f"{', '.join(found.inputs)} -> {', '.join(found.outputs)}; embedding {found.dim_out}, "
        f"classes {found.classes}",
        f"checked against PyTorch in float32 at {batches} rows: largest difference "
        f"{found.largest_difference:.1e} of the largest number",
    ]
    cost = found.quantised
    if cost is not None:
        lines.append(
            f"int8 on {cost.rows} validation rows: {percent(cost.int8)}, in float32 "
            f"{percent(cost.float32)}: {_difference(cost.difference)} points, the same on "
            f"{percent(cost.agreement)} of them"
        )
    if cost is not None and cost.calibration_rows:
        lines.append(f"ranges from {cost.calibration_rows} training rows")
    return "\n".join([*lines, *found.notes])


def _info(found: f.Info) -> str:
    rows = [
        (
            f"{store.path}/{store.split}",
            store.state,
            str(store.rows),
            str(store.dim),
            store.dtype,
            size(store.bytes),
        )
        for store in found.stores
    ]
    lines = [f"{found.path}: {found.title}" if found.title else found.path]
    if found.teacher:
        lines.append(f"teacher taught here: {found.teacher}")
    if rows:
        lines.append(table(("store", "state", "rows", "dim", "dtype", "size"), rows))
    if found.heads:
        lines.append(_heads(f.Heads(heads=found.heads)))
    if found.students:
        lines.append(_students(f.Students(students=found.students)))
    if found.report:
        lines.append(f"report: {found.report}")
    return "\n\n".join(lines)


def _verified(found: f.Verified) -> str:
    begun = [
        f"{path} is unfinished: the command that began it goes on with it"
        for path in found.unfinished
    ]
    if found.passed:
        count = found.stores - len(begun)
        return "\n".join([f"{found.path}: {found.files} files in {count} stores are sound", *begun])
    lines = begun
    for damage in found.damages:
        rows = f", rows {damage.rows[0]} to {damage.rows[1] - 1}" if damage.rows else ""
        chunk = f" (chunk {damage.chunk}{rows})" if damage.chunk is not None else ""
        lines.append(f"{damage.store}/{damage.file}{chunk}: {damage.reason}")
    return "\n".join([*lines, "features: `distill extract --repair` redoes just these chunks"])


def _predictions(found: f.Predictions) -> str:
    return "\n".join(
        f"{one.input}\t{one.label}\t{one.probability:.3f}" for one in found.predictions
    )


def _doctor(found: f.Doctor) -> str:
    return "\n".join(
        f"{'ok     ' if check.passed else 'MISSING'}  {check.name}: {check.detail}"
        for check in found.checks
    )


def _plan(found: f.Plan) -> str:
    rows = [
        (
            stage.stage,
            stage.what,
            "done" if stage.done else "to do",
            "" if stage.seconds is None else duration(stage.seconds),
            size(stage.bytes) if stage.bytes else "",
        )
        for stage in found.stages
    ]
    return "\n".join(
        [table(("stage", "what", "", "time", "disk"), rows), f"free: {size(found.free_bytes)}"]
    )


_WRITERS: dict[type, Callable[[Any], str]] = {
    f.Taught: _taught,
    f.Extracted: _extracted,
    f.Nested: _nested,
    f.Projections: _projections,
    f.Validation: _validation,
    f.Heads: _heads,
    f.Sweep: _sweep,
    f.Students: _students,
    f.Comparison: _comparison,
    f.Frontier: _frontier,
    f.LanguageFrontier: _language,
    f.Fixed: _fixed,
    f.Reported: _reported,
    f.Exported: _exported,
    f.ExportedStudent: _exported_student,
    f.Info: _info,
    f.Verified: _verified,
    f.Predictions: _predictions,
    f.Doctor: _doctor,
    f.Plan: _plan,
}
