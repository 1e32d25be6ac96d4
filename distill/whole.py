"""Files that are written whole or not at all: a reader sees the old one or the new one."""

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
def set_aside(folder: Path, *, wanted: bool) -> Iterator[None]:
    """Make room for another folder in its place; the old one goes when there is a new one.

    Where the block fails before that, the old one is back, and after a kill it is at the next call,
    ``wanted`` or not.
    """
    aside = folder.with_name(f".{folder.name}.replaced")
    if aside.exists() and not folder.exists():
        aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if wanted and folder.exists():
        folder.rename(aside)
    try:
        yield
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
