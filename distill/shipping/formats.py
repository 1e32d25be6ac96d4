"""The formats a student is exported to, and what is refused before any work is done."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.errors import StageError, nearest


@dataclass(frozen=True)
class Format:
    """How files of a format end, and which libraries write and read one."""

    suffix: str
    parts: tuple[str, ...] = ()
    int8: bool = False  # whether it can hold eight-bit weights


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "onnxscript"), int8=True),
    "torch-export": Format(".pt2"),
}


def choose_format(name: str, path: Path | None) -> str:
    """Take the format of that name, else the one that the file's ending says, else ONNX."""
    if name and name not in FORMATS:
        hint = nearest(name, FORMATS, cutoff=0.3) or f"; known: {', '.join(FORMATS)}"
        raise StageError(f"no format named {name!r} to export to{hint}")
    endings = {form.suffix: chosen for chosen, form in FORMATS.items()}
    if not name and path is not None and path.suffix and path.suffix not in endings:
        known = " or ".join(endings)
        raise StageError(f"{path.name!r} ends like no format to export to; name it {known}")
    return name or (endings.get(path.suffix, "onnx") if path is not None else "onnx")


def check_output(path: Path, name: str, *, int8: bool, overwrite: bool) -> None:
    """Refuse what cannot be written, before there is anything to lose. ``StageError``."""
    form = FORMATS[name]
    if int8 and not form.int8:
        able = ", ".join(other for other, found in FORMATS.items() if found.int8)
        raise StageError(f"--int8 is for --format {able}, not for {name}")
    if path.suffix != form.suffix:
        raise StageError(f"a file of {name} ends in {form.suffix}; {path.name!r} does not")
    if not path.parent.is_dir():
        raise StageError(f"there is no folder {path.parent} to write {path.name} into")
    if path.is_dir():
        raise StageError(f"{path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise StageError(f"{path} is already there; name another file or say --overwrite")
    check_parts(name, form.parts)


def check_parts(name: str, parts: Sequence[str]) -> None:
    """Refuse where a library is missing, and say how to get it. ``StageError``."""
    missing = [part for part in parts if importlib.util.find_spec(part) is None]
    if missing:
        raise StageError(f"{name} needs {' and '.join(missing)}; pip install {' '.join(missing)}")
