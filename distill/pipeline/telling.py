"""``report`` and ``run``: everything found so far in three files, and all stages in a row."""

import json
from pathlib import Path
from typing import Any, Unpack

from distill.findings import Extracted, Report, Reported, Taught
from distill.options import RUN, RunOptions, overrides
from distill.pipeline.budgeting import finished_frontier
from distill.pipeline.building import (
    BESIDE,
    command,
    current_students,
    feature_stores,
    projected_stores,
)
from distill.pipeline.comparing import finished_comparison
from distill.pipeline.learning import check_student, fit_heads, teach_students
from distill.pipeline.measuring import costs_of
from distill.pipeline.opening import Opened, UserError, opened_for_writing
from distill.pipeline.projecting import project_all
from distill.pipeline.sweeping import finished_sweep
from distill.pipeline.teaching import take_features, teach
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN, Run, recall

FORMAT = 1


def report(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    progress: Progress = SILENT,
) -> Reported:
    """Write the compression-ratio report: ``report.json``, ``report.md``, ``report.html``."""
    with opened_for_writing(run, config, {}) as opened:
        return tell(opened, progress=progress)


def run(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    progress: Progress = SILENT,
    **options: Unpack[RunOptions],
) -> Reported:
    """All stages, skipping what is finished; without a config, the handwritten digits."""
    asked = overrides(options, RUN)
    if options.get("weights") is not None or options.get("random_init"):
        asked.setdefault("teacher.taught", False)
    if asked.get("project.factors"):
        asked["student.factor"] = max(asked["project.factors"])
    with opened_for_writing(run, config, asked) as opened:
        check_student(opened.config, opened.dataset.modality)
        if opened.config.teacher.taught:
            teach(opened, progress=progress)
        take_features(opened, progress=progress)
        project_all(opened, progress=progress)
        fit_heads(opened, progress=progress)
        teach_students(opened, progress=progress)
        return tell(opened, progress=progress)


def tell(opened: Opened, *, progress: Progress) -> Reported:
    """The reporting stage on an opened run."""
    from distill.reporting import compression_table, write_report

    folder = opened.run.folder
    record = _record(opened, progress)
    files = write_report(record, folder)
    return Reported(
        report=record,
        html=str(files.html),
        markdown=str(files.markdown),
        json=str(files.json),
        table=compression_table(record),
    )


def _record(opened: Opened, progress: Progress) -> Report:
    run, config = opened.run, opened.config
    extracted = recall(run.extracted, Extracted)
    if extracted is None:
        raise UserError(
            f"nothing to report in {run.folder} yet: run {command(run, 'extract')} first"
        )
    stores = feature_stores(run)
    # `extract && project && report` is a fair thing to type, and the report is about the heads:
    # those that are trained already are only read back. Without labels it is about distances.
    labelled = all(store.spec.labelled for name, store in stores.items() if name not in BESIDE)
    heads = fit_heads(opened, progress=progress).heads if labelled else ()
    taught = recall(run.taught, Taught) if config.teacher.taught else None
    projected = projected_stores(run, stores, progress)
    students = current_students(run, stores, projected, progress)
    return Report(
        format=FORMAT,
        title=config.title,
        dataset=extracted.dataset,
        data_note=extracted.data_note,
        teacher=extracted.teacher,
        classes=heads[0].classes if heads else 0,
        taught=taught,
        extracted=extracted,
        projected=tuple(found for found, _ in projected),
        heads=heads,
        students=tuple(sorted(students, key=lambda one: (not one.native, one.name))),
        costs=costs_of(opened, heads, students, progress=progress),
        sweep=finished_sweep(opened, progress),
        comparison=finished_comparison(opened, progress),
        frontier=finished_frontier(opened, progress),
        notes=(*extracted.notes, *(taught.notes if taught else ())),
        environment=_environment(run),
    )


def _environment(run: Run) -> dict[str, Any]:
    """Where the last command ran; nothing where the file is damaged, which decides no result."""
    try:
        found = json.loads(run.environment.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
