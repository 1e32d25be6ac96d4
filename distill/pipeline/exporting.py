"""``export``: a student of a run as a file that other runtimes read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distill.findings import ExportedStudent
from distill.pipeline.opening import Opened, UserError, peek, told
from distill.pipeline.pointing import EXPORTED, nested_path, student_path
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN

if TYPE_CHECKING:
    from distill.datasets import Split
    from distill.nested_students import NestedStudent
    from distill.shipping import Shipped
    from students import PretrainedStudent


def export(
    run: Path | str = DEFAULT_RUN,
    *,
    student: str = "",
    budget: float | None = None,
    format: str = "",  # noqa: A002 - what it is called everywhere else
    int8: bool = False,
    output: Path | str | None = None,
    overwrite: bool = False,
    config: Path | str | None = None,
    progress: Progress = SILENT,
) -> ExportedStudent:
    """A student as an ONNX file or a torch.export program, checked against the student.

    Classes, preprocessing and tokenizer are inside. Without ``output`` the file lies beside the
    student; its ending, or else ``format``, decides. ``int8`` makes the weights eight bits wide
    and measures on the run's validation rows what that costs. A nested network is fixed at the
    ``budget``, a share of dense FLOPs, and becomes a plain one.
    """
    from distill.predictor import Predictor
    from distill.shipping import FORMATS, check_output, choose_format
    from distill.stages.export import export as stage
    from distill.stages.export import export_int8
    from teachers import rebuild_prepare

    with told():
        opened = peek(run, config, {})
        nested = nested_path(opened.run, student)
        folder = nested or student_path(opened.run, student)
        if nested and budget is None:
            raise UserError(
                f"{folder.name} is nested and has many budgets; say one with --budget, as 0.5"
            )
        if not nested and budget is not None:
            raise UserError(f"{folder.name} is not nested and has no budgets; leave out --budget")
        if folder.suffix == EXPORTED:
            raise UserError(f"{folder} is exported already; name the student it was made of")
        form = choose_format(format, None if output is None else Path(output))
        at = "" if budget is None else f"@{budget:g}"
        ending = f"{at}{'.int8' if int8 else ''}{FORMATS[form].suffix}"
        path = folder / f"student{ending}" if output is None else Path(output)
        check_output(path, form, int8=int8, overwrite=overwrite)
        made = _opened(folder, budget, form)
        if not int8:
            return stage(made, folder.name, path, form=form, progress=progress)
        splits = _splits(opened, folder.name, made)
        predictor = Predictor(
            name=folder.name,
            student=made,
            prepare=rebuild_prepare(folder, made.modality, made.preprocessing),
            device="cpu",
        )
        return export_int8(
            predictor,
            path,
            train=splits["train"],
            validation=splits["validation"],
            progress=progress,
        )


def _opened(folder: Path, budget: float | None, form: str) -> "PretrainedStudent | NestedStudent":
    """The student, or the nested network at its budget as a plain one."""
    from distill.nested_students import load_plain_student
    from students import load

    if budget is None:
        return load(folder)
    # onnxruntime gathers so slowly that a network without gauges answers sooner
    return load_plain_student(folder, budget=budget, gauges=form != "onnx")


def _splits(opened: Opened, name: str, student: "Shipped") -> "Mapping[str, Split]":
    """The rows of the run, which must be of the data that the student was taught."""
    dataset = opened.dataset
    if dataset.classes != student.classes or dataset.modality != student.modality:
        raise UserError(
            f"{dataset.name}, the data of {opened.run.folder}, has other classes or inputs than "
            f"{name}; name the student's own run with --run"
        )
    taught = student.made_by.get("dataset")
    if taught != dataset.fingerprint:
        raise UserError(
            f"{dataset.name} does not hold the data that {name} was taught with any more "
            f"(fingerprint {str(taught)[:12]} then, {dataset.fingerprint[:12]} now): what int8 "
            "costs is measured on its validation rows"
        )
    return dataset.splits
