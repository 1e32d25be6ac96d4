"""Files and folders that are replaced whole or not at all: a reader sees the old or the new."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A hidden name to write to; it becomes ``path`` when all went well, else it goes."""
    scratch = path.with_name(f".{path.name}.partial")
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def replacing(folder: Path, *, wanted: bool, made_from: str) -> Iterator[Path]:
    """Where to work on a folder: there; or, if another is wanted in its place, beside it.

    What is there stays, whole and in use, until the block has ended well. Where it did not, what
    was made waits for the next call that wants one of the same ``made_from``; one of another drops
    it. A kill between the two leaves the new one in place at the next call.
    """
    room = folder.with_name(f".{folder.name}.next")
    work, old, mark = room / "new" / folder.name, room / "old", room / "made_from"
    if old.exists() and not folder.exists():  # killed while one took the other's place
        work.rename(folder)
        shutil.rmtree(room)
    if not (wanted and folder.exists()):
        yield folder
        return
    if not mark.is_file() or mark.read_text() != made_from:
        shutil.rmtree(room, ignore_errors=True)
        work.parent.mkdir(parents=True)
        mark.write_text(made_from)
    yield work
    if work.exists():
        folder.rename(old)
        work.rename(folder)
    shutil.rmtree(room)
