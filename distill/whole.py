"""Files that are written whole or not at all: a reader sees the old one or the new one."""

import os
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
