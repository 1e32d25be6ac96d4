"""Folders that are made anew: the old one stays in use until its successor is finished."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.together import follows


@contextmanager
def replacing(folder: Path, *, wanted: bool, made_from: str) -> Iterator[Path]:
    """Where to work on a folder: there; or, if another is wanted in its place, beside it.

    What is there stays, whole and in use, until the block has ended well. Where it did not, what
    was made waits for the next call that wants one of the same ``made_from``; one of another drops
    it. A kill between the two leaves the new one in place at the next call. A process that follows
    another works where that one does, and leaves all moving to it.
    """
    room = folder.with_name(f".{folder.name}.next")
    work, old = room / "new" / folder.name, room / "old"
    mark, busy = room / "made_from", room / "busy"  # busy: what leads is within, or died there
    if follows():
        yield work if busy.is_file() and mark.read_text() == made_from else folder
        return
    if old.exists():  # killed while one took the other's place
        if not folder.exists():
            work.rename(folder)
        shutil.rmtree(room)
    busy.unlink(missing_ok=True)
    if not (wanted and folder.exists()):
        yield folder
        return
    if not mark.is_file() or mark.read_text() != made_from:
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir(parents=True)
        mark.write_text(made_from)
    work.parent.mkdir(exist_ok=True)
    busy.touch()
    yield work
    if work.exists():
        folder.rename(old)
        work.rename(folder)
    shutil.rmtree(room)
