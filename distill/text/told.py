"""What commands about runs, files and machines say, in lines for a terminal."""

from collections.abc import Callable
from typing import Any

from distill import findings as f
from distill.text.made import heads, students
from distill.text.words import difference, duration, percent, size, table


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
            f"{percent(cost.float32)}: {difference(cost.difference)} points, the same on "
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
        lines.append(heads(f.Heads(heads=found.heads)))
    if found.students:
        lines.append(students(f.Students(students=found.students)))
    if found.report:
        lines.append(f"report: {found.report}")
    return "\n\n".join(lines)


def _verified(found: f.Verified) -> str:
    begun = [
        f"{path} is unfinished: the command that began it goes on with it"
        for path in found.unfinished
    ]
    if found.passed:
        sound = f"{found.path}: {found.files} files in {found.stores} stores are sound"
        return "\n".join([sound, *begun])
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


WRITERS: dict[type, Callable[[Any], str]] = {
    f.Reported: _reported,
    f.Exported: _exported,
    f.ExportedStudent: _exported_student,
    f.Info: _info,
    f.Verified: _verified,
    f.Predictions: _predictions,
    f.Doctor: _doctor,
    f.Plan: _plan,
}
