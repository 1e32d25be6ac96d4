"""``export``: a student of a run as a file that other runtimes read."""

from pathlib import Path
from typing import TYPE_CHECKING

from distill.findings import ExportedStudent
from distill.pipeline.opening import Opened, UserError, peek, told
from distill.pipeline.pointing import EXPORTED, student_path
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN

if TYPE_CHECKING:
    from distill.datasets import Split
    from students import PretrainedStudent


def export(
    run: Path | str = DEFAULT_RUN,
    *,
    student: str = "",
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
    and measures on the run's validation rows what that costs.
    """
    from distill.shipping import FORMATS, check_output, choose_format
    from distill.stages.export import export as stage
    from distill.stages.export import export_int8
    from students import load

    with told():
        opened = peek(run, config, {})
        folder = student_path(opened.run, student)
        if folder.suffix == EXPORTED:
            raise UserError(f"{folder} is exported already; name the student it was made of")
        form = choose_format(format, None if output is None else Path(output))
        ending = f"{'.int8' if int8 else ''}{FORMATS[form].suffix}"
        path = folder / f"student{ending}" if output is None else Path(output)
        check_output(path, form, int8=int8, overwrite=overwrite)
        if not int8:
            return stage(load(folder), folder.name, path, form=form, progress=progress)
        from distill.predictor import load_predictor

        validation = _validation(opened, folder.name, load(folder))
        return export_int8(load_predictor(folder), path, validation=validation, progress=progress)


def _validation(opened: Opened, name: str, student: "PretrainedStudent") -> "Split":
    """The validation rows of the run, which must be of the data that the student was taught."""
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
    return dataset.splits["validation"]
