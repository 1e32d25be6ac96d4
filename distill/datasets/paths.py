"""Paths as a user types them: found, or refused with what to type instead."""

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path

from distill.datasets.errors import DataError, some
from distill.errors import nearest


def existing_folder(place: str, form: str) -> Path:
    """Return the folder; ``DataError`` says what is there instead."""
    if not place:
        raise DataError(f"no folder is named; the form is {form}")
    folder = Path(place).expanduser()
    if folder.is_file():
        raise DataError(f"{folder} is a file, not a folder; the form is {form}")
    if not folder.is_dir():
        raise DataError(_missing(folder))
    if not any(folder.iterdir()):
        raise DataError(f"the folder {folder} is empty; the form is {form}")
    return folder


def existing_files(place: str, suffixes: Sequence[str], form: str) -> list[Path]:
    """Find the files that a path, a folder or a glob pattern stands for, sorted; never empty."""
    if not place:
        raise DataError(f"no path is named; the form is {form}")
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if _takes(file, suffixes))
        if not inside:
            raise DataError(f"the folder {path} holds no file ending in {' or '.join(suffixes)}")
        return inside
    if not glob.has_magic(str(path)):
        raise DataError(_missing(path))
    matching = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 - the pattern may be absolute
    found = [file for file in matching if file.is_file()]
    if not found:
        raise DataError(f"no file matches {path}; quote the pattern, and check the folder's name")
    return found


def _takes(file: Path, suffixes: Sequence[str]) -> bool:
    plain = file.name.lower().removesuffix(".gz")
    return (
        plain.endswith(tuple(suffixes)) and not file.name.startswith((".", "_")) and file.is_file()
    )


def _missing(path: Path) -> str:
    """Say how far the path leads, and the nearest name there."""
    home = next((parent for parent in path.parents if parent.is_dir()), Path())
    step = path.relative_to(home).parts[0] if home in path.parents else path.name
    there = sorted(entry.name for entry in home.iterdir())
    hint = nearest(step, there) or (f"; it holds {some(there, 5)}" if there else "; it is empty")
    return f"there is no {path}: {home.absolute()} has no {step!r}{hint}"


def digest_of(files: Sequence[Path]) -> str:
    """Sha256 of the files' contents, one after the other; names and places do not count."""
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()
