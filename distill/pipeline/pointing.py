"""Which student is meant, by its name in a run or by a path; and a student as a teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.config import STUDENT, Config
from distill.errors import nearest
from distill.findings import Student
from distill.pipeline.building import command, the_device
from distill.pipeline.opening import UserError
from distill.runs import Run, recall

if TYPE_CHECKING:  # quoted below, so that naming the parts does not load torch
    from teachers import Teacher

FILES = ("student.safetensors", "config.json")  # of a student as trained, and as shared
EXPORTED, PROGRAM = ".onnx", ".pt2"
NESTED = "nested.safetensors"


def is_student(path: Path) -> bool:
    """Whether a student's folder is there."""
    return any((path / file).is_file() for file in FILES)


def nested_path(run: Run, name: str) -> Path | None:
    """The folder of the run's nested network of this name, or of one anywhere; None for another."""
    for folder in (run.nested / name, Path(name)):
        if name and (folder / NESTED).is_file():
            return folder
    return None


def student_path(run: Run, name: str) -> Path:
    """The named student of the run, else its only subspace-native one.

    A path will do as well: of a student's folder anywhere, or of an exported file ….onnx.
    """
    trained = {
        file.parent.name: recall(file, Student) for file in run.students.glob("*/student.json")
    }
    if name in trained:
        return run.students / name
    path = Path(name)
    if name and (path.suffix == EXPORTED or is_student(path)):
        return path
    if not trained:
        raise UserError(
            f"no student in {run.folder} yet: run {command(run, 'train-student')} first"
        )
    native = sorted(key for key, found in trained.items() if found and found.native)
    if not name and len(native) == 1:
        return run.students / native[0]
    if path.suffix == PROGRAM:
        raise UserError(
            f"{path} is a program of torch.export, which torch.export.load reads; here a student's "
            "folder will do, or an .onnx file"
        )
    nested = sorted(file.parent.name for file in run.nested.glob(f"*/{NESTED}"))
    what = f"no student named {name!r}" if name else "several students"
    hint = nearest(name, [*trained, *nested]) if name else ""
    beside = f"; nested, of any budget: {', '.join(nested)}" if nested else ""
    raise UserError(
        f"{what} in {run.folder}{hint}; name one with --student: {', '.join(sorted(trained))}"
        f"{beside}"
    )


def student_as_teacher(
    config: Config, classes: Sequence[str], *, fresh: bool, image_size: int
) -> "Teacher":
    """The student that a teacher's name ``run:PATH`` points to, frozen.

    Its features are the numbers that it emits, its logits those of its head, cut to ``classes``
    or dropped as any teacher's. ``PATH`` is a student's folder, or a run that has one student.
    """
    from students import load
    from teachers import make_teacher, rebuild_prepare, resized

    settings = config.teacher
    if fresh:
        raise UserError(
            f"{settings.name} is a student and teaches as it is; leave out train-teacher, or name "
            "a network to be taught"
        )
    _plain(settings.model_dump())
    folder = _pointed(Path(settings.name.removeprefix(STUDENT)))
    student = load(folder)
    preprocessing = student.preprocessing
    prepare = rebuild_prepare(folder, student.modality, preprocessing)
    if image_size and image_size != preprocessing.get("image_size"):
        preprocessing, prepare = resized(preprocessing, image_size)
    teacher = make_teacher(
        student.network.encoder,
        name=settings.name,
        prepare=prepare,
        modality="text" if student.modality == "text" else "image",
        call=_called,
        preprocessing=preprocessing,
        head=student.network.head,
        labels=student.classes,
        classes=classes,
        device=the_device(config),
    )
    note = f"the teacher is a student itself: {folder.name}"
    return replace(teacher, card=replace(teacher.card, notes=(note, *teacher.card.notes)))


def _called(network: Any, prepared: Mapping[str, Any]) -> Any:
    return network(prepared)


def _plain(settings: Mapping[str, Any]) -> None:
    """Refuse what only a network that is built anew can be told."""
    for name, usual in {"layer": "", "options": {}, "preprocessing": {}}.items():
        if settings[name] != usual:
            raise UserError(
                f"teacher.{name} = {settings[name]!r} is for networks; the student "
                f"{settings['name']} is used as it was taught"
            )
    if settings["weights"] != "pretrained":
        raise UserError(
            f"--weights {settings['weights']} is for networks; the student {settings['name']} "
            "brings its own"
        )


def _pointed(path: Path) -> Path:
    if is_student(path):
        return path
    names = sorted(folder.name for folder in path.glob("students/*") if is_student(folder))
    if len(names) == 1:
        return path / "students" / names[0]
    if names:
        each = ", ".join(f"{STUDENT}{path}/students/{name}" for name in names)
        raise UserError(f"{path} has several students; name one: {each}")
    raise UserError(
        f"no student at {path}: --teacher {STUDENT}… wants a student's folder, "
        "runs/NAME/students/STUDENT, or a run that has one"
    )
